"""Whether wandb could be used here, and what an artifact object of it holds: asked without a run."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

import msgspec

from tracelet.backends.addresses import redacted
from tracelet.backends.base import AdoptedArtifact, Probe
from tracelet.backends.wandb.config import WandbConfig
from tracelet.backends.wandb.errors import NOT_INSTALLED, imported
from tracelet.backends.wandb.server import OFFLINE, NotSignedIn, the_server
from tracelet.errors import BackendUnavailable

_TIMEOUT = 3.0
_OWN_CAPTURE = "WANDB_SYNC_TENSORBOARD"


def probe(config: WandbConfig) -> Probe:
    """Whether a run could be begun here and now."""
    if importlib.util.find_spec("wandb") is None:
        return Probe(False, NOT_INSTALLED)
    wandb = imported()
    settings = _settings(wandb)
    mode = config.mode or settings.mode
    if mode in OFFLINE:
        return Probe(True, f"mode {mode}: nothing is sent")
    url = config.backend_url or str(settings.base_url)
    try:
        server = the_server(wandb, msgspec.structs.replace(config, backend_url=url))
    except wandb.Error as error:
        return Probe(False, redacted(f"{url}: {error}"), signed_in=False)
    except BackendUnavailable as error:
        return Probe(False, _told(error), signed_in=False)
    try:
        server.check(_TIMEOUT)
    except NotSignedIn as error:
        return Probe(False, _told(error), reachable=True, signed_in=False)
    except BackendUnavailable as error:  # what came over the network has no cause
        return Probe(False, _told(error), reachable=error.__cause__ is None)
    return Probe(True, f"signed in to {server.shown}", reachable=True, signed_in=True)


def native_capture() -> str | None:
    """wandb's own capture, if the environment or a file of wandb's settings asks for it."""
    settings = _settings(imported())
    return f"{_OWN_CAPTURE}={os.environ.get(_OWN_CAPTURE, 'true')}" if settings.sync_tensorboard else None


def _settings(wandb: Any) -> Any:
    settings = wandb.Settings()
    settings.update_from_env_vars(dict(os.environ))
    return settings


def _told(error: BackendUnavailable) -> str:
    return error.reason.removeprefix("wandb: ")


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
