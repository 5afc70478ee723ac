"""`wandb.apis`: `from wandb.apis.public import Api`."""

from __future__ import annotations

from tracelet.compat.wandb import api as public
from tracelet.compat.wandb.api import Api

PublicApi = Api

__all__ = ["Api", "PublicApi", "public"]
