"""Whether wandb could be used here, and what an artifact object of it holds: asked without a run."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from tracelet.backends.base import AdoptedArtifact, Probe
from tracelet.backends.wandb.config import WandbConfig
from tracelet.backends.wandb.errors import NOT_INSTALLED, imported
from tracelet.backends.wandb.server import OFFLINE, the_server
from tracelet.errors import BackendUnavailable

_TIMEOUT = 3.0


def probe() -> Probe:
    """Whether a run could be begun here and now, with what the environment says."""
    if importlib.util.find_spec("wandb") is None:
        return Probe(False, NOT_INSTALLED)
    wandb = imported()
    settings = wandb.Settings()
    settings.update_from_env_vars(dict(os.environ))
    if settings.mode in OFFLINE:
        return Probe(True, f"mode {settings.mode}: nothing is sent")
    try:
        server = the_server(wandb, WandbConfig(backend_url=str(settings.base_url)))
        server.check(_TIMEOUT)
    except wandb.Error as error:
        return Probe(False, f"{settings.base_url}: {error}")
    except BackendUnavailable as error:
        return Probe(False, error.reason.removeprefix("wandb: "))
    return Probe(True, f"signed in to {server.url}")


def adopt(obj: Any) -> AdoptedArtifact | None:
    """A `wandb.Artifact` with its local files; references stay in the metadata."""
    wandb = sys.modules.get("wandb")
    if wandb is None or not isinstance(obj, wandb.Artifact):
        return None
    manifest = obj.manifest.entries
    metadata = dict(obj.metadata)
    if obj.description:
        metadata["description"] = obj.description
    references = {path: str(entry.ref) for path, entry in manifest.items() if entry.ref and not entry.local_path}
    if references:
        metadata["references"] = references
    return AdoptedArtifact(
        name=obj.name.partition(":")[0],
        files={str(path): str(entry.local_path) for path, entry in manifest.items() if entry.local_path},
        type=obj.type,
        metadata=metadata,
    )
