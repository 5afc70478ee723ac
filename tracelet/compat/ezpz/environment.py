"""The variables and `.env` files that ezpz's tracker reads."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from pathlib import Path

from tracelet.guard import logger

_MODES = ("online", "offline", "disabled", "shared")
_PROJECTS = ("WB_PROJECT", "WANDB_PROJECT", "WB_PROJECT_NAME")
_FALSE = ("", "0", "false", "no")
_TRUE = ("true", "1", "yes")


def backend_names(backends: str | list[str] | tuple[str, ...] | None) -> list[str]:
    """Return the names of the backends: the argument, else two variables, else wandb. `none` means no backend."""
    if backends is None:
        backends = variable("EZPZ_TRACKER_BACKENDS", "EZPZ_TRACKERS") or "wandb"
    listed = backends.split(",") if isinstance(backends, str) else list(backends)
    names = [str(name).strip().lower() for name in listed]
    return [name for name in dict.fromkeys(names) if name not in ("", "none")]


def wandb_project(project_name: str | None) -> str:
    return project_name or variable(*_PROJECTS) or _of_script()


def mlflow_experiment(project_name: str | None) -> str:
    name = variable("MLFLOW_EXPERIMENT_NAME") or project_name or variable(*_PROJECTS) or _of_script()
    return name.replace(".", "-")


def wandb_mode(mode: str | None) -> str | None:
    """Return wandb's mode from the argument or WANDB_MODE; None for wandb's default.

    Raises:
        ValueError: there is no such mode.
    """
    if os.environ.get("WANDB_DISABLED", "").strip().lower() not in _FALSE:
        return "disabled"
    chosen = mode or os.environ.get("WANDB_MODE")
    if not chosen:
        return None
    if chosen.lower() not in _MODES:
        raise ValueError(f"the mode of wandb must be one of {', '.join(_MODES)}, got {chosen!r}")
    return chosen.lower()


def load_env_files() -> None:
    """Set variables from `~/.amsc.env`, then from the project's `.env`, which wins over existing variables."""
    try:
        import dotenv
    except ImportError:
        if _has_env_file():
            logger.warning("tracelet: .env files are not read. Install python-dotenv")
        return
    with contextlib.suppress(OSError, RuntimeError, UnicodeDecodeError):
        dotenv.load_dotenv(Path("~/.amsc.env").expanduser(), override=False)
    project = _project_file()
    if project is not None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            dotenv.load_dotenv(project, override=True)


def silence_insecure_tls() -> None:
    """Hide urllib3's warning at each request if the user has switched the check of certificates off."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in _TRUE:
        warnings.filterwarnings("ignore", message="Unverified HTTPS request")


def _has_env_file() -> bool:
    with contextlib.suppress(OSError, RuntimeError):
        return _project_file() is not None or Path("~/.amsc.env").expanduser().is_file()
    return False


def _project_file() -> Path | None:
    with contextlib.suppress(OSError):
        folder = Path.cwd()
        return next((file for place in (folder, *folder.parents) if (file := place / ".env").is_file()), None)
    return None


def variable(*names: str) -> str | None:
    """Return the first variable that is set."""
    return next((value for name in names if (value := os.environ.get(name))), None)


def _of_script() -> str:
    """Return a name for the program: `folder.script`."""
    script = Path(sys.argv[0]) if sys.argv and sys.argv[0] not in ("", "-c", "-m") else Path("ezpz")
    with contextlib.suppress(OSError):
        script = script.absolute()
    return f"{script.parent.name}.{script.stem}".strip(".")
