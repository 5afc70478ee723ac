"""Who a run is: its id, and the folder that holds it."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from tracelet.errors import ConfigurationError, RunNotFound

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
_UNSAFE_IN_FILE = re.compile(r"[^\w.\-+=@ ]")
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")


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


def safe_filename(name: str, *, limit: int = 100) -> str:
    """A file name for any text: no separator, no device, no trailing dot; distinct texts stay distinct.

    A name that had to change carries eight hex digits of the original's digest, also where two names differ only in
    case, which some file systems do not see.
    """
    clean = _UNSAFE_IN_FILE.sub("_", name)[:limit].strip(" .")
    if clean == name and clean == clean.lower() and clean and not _DEVICE.match(clean):
        return clean
    import hashlib  # here and not at `import tracelet`: OpenSSL takes milliseconds, and few names need it

    stem = f"_{clean}" if not clean or _DEVICE.match(clean) else clean
    return f"{stem}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def run_folder(base: Path, project: str | None, run_id: str) -> Path:
    return base / safe_filename(project or "default") / run_id


def all_runs(base: Path) -> list[Path]:
    """Every run folder under `base`, in the order of their ids.

    Raises:
        ConfigurationError: `base` cannot be looked into.
    """
    try:
        with os.scandir(base):  # of a folder that may not be entered, `glob` says nothing
            pass
        found = [path.parent for path in base.glob("*/*/journal.db")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot look for runs in {base}: {_reason(error)}") from error
    return sorted(found, key=lambda folder: folder.name)


def find_run(base: Path, run: str) -> Path:
    """The folder of a run by its id, the beginning of it, `project/id` or a path; it is absolute.

    Raises:
        RunNotFound: no run, or more than one, answers to it.
    """
    if not run:  # the beginning of every id; in a shell, a variable that is not set
        raise RunNotFound("a run without a name: say its id, the beginning of it, project/id, or its folder")
    try:
        if (Path(run) / "journal.db").is_file():
            return Path(os.path.abspath(run))
    except (OSError, ValueError) as error:
        raise RunNotFound(f"no run {run!r}: {_reason(error)}") from error
    runs = all_runs(base)
    project, _, run_id = run.rpartition("/")
    places = (project, safe_filename(project)) if project else ()
    exact = [
        folder for folder in runs if folder.name == run or (folder.name == run_id and folder.parent.name in places)
    ]
    found = exact or [folder for folder in runs if folder.name.startswith(run)]
    if len(found) == 1:
        return Path(os.path.abspath(found[0]))
    if found:
        raise RunNotFound(
            f"{run!r} is the beginning of {len(found)} runs: {', '.join(folder.name for folder in found)}"
        )
    raise RunNotFound(f"no run {run!r} under {base} (see `tracelet runs`; TRACELET_DIR says where runs are)")


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
