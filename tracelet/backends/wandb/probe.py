"""Check wandb's availability, and read its artifact objects, without a run."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

import msgspec

from tracelet.backends.base import AdoptedArtifact, Probe
from tracelet.backends.wandb.config import WandbConfig
from tracelet.backends.wandb.errors import NOT_INSTALLED, import_wandb
from tracelet.backends.wandb.server import OFFLINE_MODES, NotSignedIn, server_of
from tracelet.errors import BackendUnavailable
from tracelet.guard import logger
from tracelet.redaction import redacted_url

_TIMEOUT = 3.0
_NATIVE_CAPTURE = "WANDB_SYNC_TENSORBOARD"


def probe(config: WandbConfig) -> Probe:
    """Check if a run can be started now."""
    if importlib.util.find_spec("wandb") is None:
        return Probe(False, NOT_INSTALLED)
    wandb = import_wandb()
    settings = _settings(wandb)
    mode = config.mode or settings.mode
    if mode in OFFLINE_MODES:
        return Probe(True, f"mode {mode}: nothing is sent")
    url = config.backend_url or str(settings.base_url)
    try:
        server = server_of(wandb, msgspec.structs.replace(config, backend_url=url))
    except wandb.Error as error:
        return Probe(False, redacted_url(f"{url}: {error}"), signed_in=False)
    except BackendUnavailable as error:
        return Probe(False, _text(error), signed_in=False)
    try:
        server.check(_TIMEOUT)
    except NotSignedIn as error:
        return Probe(False, _text(error), reachable=True, signed_in=False)
    except BackendUnavailable as error:  # if the server answered, there is no cause
        return Probe(False, _text(error), reachable=error.__cause__ is None)
    return Probe(True, f"signed in to {server.shown}", reachable=True, signed_in=True)


def native_capture() -> str | None:
    """Return the variable and value if the environment or a settings file enables wandb's own capture; else None."""
    settings = _settings(import_wandb())
    return f"{_NATIVE_CAPTURE}={os.environ.get(_NATIVE_CAPTURE, 'true')}" if settings.sync_tensorboard else None


def warn_of_native_capture(wandb: Any) -> bool:
    """Log a warning and return True if the program has enabled wandb's own capture. Only the program can disable it."""
    if not getattr(wandb, "patched", {}).get("tensorboard"):
        return False
    logger.warning(
        "tracelet: wandb also captures TensorBoard, so this run receives each point twice. "
        "Remove sync_tensorboard=True and wandb.tensorboard.patch()"
    )
    return True


def _settings(wandb: Any) -> Any:
    settings = wandb.Settings()
    settings.update_from_env_vars(dict(os.environ))
    return settings


def _text(error: BackendUnavailable) -> str:
    return error.reason.removeprefix("wandb: ")


def adopt(obj: Any) -> AdoptedArtifact | None:
    """Convert a `wandb.Artifact` and its local files. The metadata contains its references."""
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
