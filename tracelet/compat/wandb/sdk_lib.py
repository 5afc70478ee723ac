"""`wandb.sdk.lib`."""

from __future__ import annotations

from tracelet.compat.wandb import errors as config_util
from tracelet.compat.wandb import telemetry
from tracelet.compat.wandb import util as runid


class RunDisabled:
    """The class of a disabled run in older versions of wandb, for `isinstance`."""


__all__ = ["RunDisabled", "config_util", "runid", "telemetry"]
