"""Who a run is: its id, and the folder that holds it."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from tracelet.errors import ConfigurationError, RunNotFound
from tracelet.naming import safe_filename

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")


def new_run_id() -> str:
    """A run id that sorts by its start, and that wandb, MLflow, ClearML and a file system all take.

    From the operating system's randomness: a seeded program keeps its generators.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    # 7 * 36 == 252: bytes beyond it would favour the first letters.
    letters = [_ALPHABET[byte % 36] for byte in os.urandom(32) if byte < 252]
    return f"{stamp}-{''.join(letters[:6])}"


def check_run_id(run_id: str) -> str:
    if not _RUN_ID.fullmatch(run_id):
        raise ConfigurationError(
            f"run_id {run_id!r}: use 1 to 64 letters, digits, '-', '_' or '.', and begin with a letter or digit"
        )
    return run_id


def run_folder(base: Path, project: str | None, run_id: str) -> Path:
    return base / safe_filename(project or "default") / run_id


def all_runs(base: Path) -> list[Path]:
    """Every run folder under `base`, oldest first."""
    return sorted((path.parent for path in base.glob("*/*/journal.db")), key=lambda folder: folder.name)


def find_run(base: Path, run: str) -> Path:
    """The folder of a run by its id, the beginning of it, `project/id` or a path.

    Raises:
        RunNotFound: no run, or more than one, answers to it.
    """
    if (Path(run) / "journal.db").is_file():
        return Path(run)
    runs = all_runs(base)
    exact = [folder for folder in runs if run in (folder.name, f"{folder.parent.name}/{folder.name}")]
    found = exact or [folder for folder in runs if folder.name.startswith(run)]
    if len(found) == 1:
        return found[0]
    if found:
        raise RunNotFound(
            f"{run!r} is the beginning of {len(found)} runs: {', '.join(folder.name for folder in found)}"
        )
    raise RunNotFound(f"no run {run!r} under {base} (see `tracelet runs`; TRACELET_DIR says where runs are)")
