"""Create run ids, and find run folders."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tracelet.errors import ConfigurationError, JournalError, RunNotFound
from tracelet.journal.store import JournalReader
from tracelet.records import RunInfo
from tracelet.runs import edits

LATEST = "latest"

SUMMARY_NAME = "removed-journal.json"
"""The file that stays when the journal of a run is removed."""
_RANKS = "ranks"
_MAX_CANDIDATES = 10
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
_UNSAFE_IN_FILE = re.compile(r"[^\w.\-+=@ ]")
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")


def new_run_id() -> str:
    """Return a run id that sorts by start time and is valid in wandb, MLflow, ClearML and file systems.

    It uses the operating system's randomness, so that generators of a seeded program do not change.
    """
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{random_letters(6)}"


def random_letters(count: int) -> str:
    """Return random lower-case letters and digits. They do not depend on the program's seeds."""
    # 7 * 36 == 252: larger bytes would favor the first letters.
    letters = [_ALPHABET[byte % 36] for byte in os.urandom(8 * count) if byte < 252]
    return "".join(letters[:count])


def check_run_id(run_id: str) -> str:
    if not _RUN_ID.fullmatch(run_id):
        raise ConfigurationError(
            f"run_id must be 1 to 64 letters, digits, '-', '_' or '.', and begin with a letter or digit, got {run_id!r}"
        )
    return run_id


def safe_filename(name: str, *, limit: int = 100) -> str:
    """Return a file name for any text, without separators, device names or trailing dots. Distinct texts stay distinct.

    If the name has to change, eight hex digits of the original's digest are added. Upper-case names change as well,
    since some file systems ignore case.
    """
    clean = _UNSAFE_IN_FILE.sub("_", name)[:limit].strip(" .")
    if clean == name and clean == clean.lower() and clean and not _DEVICE.match(clean):
        return clean
    import hashlib  # not at the top: loading OpenSSL takes milliseconds, and few names need it

    stem = f"_{clean}" if not clean or _DEVICE.match(clean) else clean
    return f"{stem}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def run_folder(base: Path, project: str | None, run_id: str) -> Path:
    return base / safe_filename(project or "default") / run_id


def folder_of_rank(folder: Path, label: str | None, prefix: str) -> Path:
    """Return the folder in which a process keeps its journal of a run in `folder`. The first one's is the run's own."""
    return folder / _RANKS / label if label is not None and prefix else folder


def folder_of_run(folder: Path) -> Path:
    """Return the folder of the run to which a folder of one of its processes belongs."""
    return folder.parent.parent if folder.parent.name == _RANKS else folder


def runs_of(folder: Path) -> Path:
    """Return the folder of the runs to which a run's folder, or that of one of its processes, belongs."""
    return folder_of_run(folder).parent.parent


def rank_folders(folder: Path) -> list[Path]:
    """Return the folders of the other ranks that log to the run in `folder`, sorted by label."""
    return sorted(path.parent for path in folder.glob(f"{_RANKS}/*/journal.db"))


def journals(folder: Path) -> list[Path]:
    """Return the folders of all journals of the run in `folder`: its own, and that of each other rank."""
    return [folder, *rank_folders(folder)]


def all_runs(base: Path, *, removed: bool = False) -> list[Path]:
    """Return every run folder under `base`, sorted by id. If `removed`, include runs whose journal was removed.

    Raises:
        ConfigurationError: if `base` cannot be read.
    """
    try:
        with os.scandir(base):  # `glob` ignores a folder without read permission
            pass
        names = ("journal.db", SUMMARY_NAME) if removed else ("journal.db",)
        folders = {path.parent for name in names for path in base.glob(f"*/*/{name}")}
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot look for runs in {base}: {_reason(error)}") from error
    return sorted(folders, key=lambda folder: (folder.name, folder))


def find_run(base: Path, run: str) -> Path:
    """Return the absolute folder of a run, given its id, the start of its id, its name or a path.

    The id, its start and the name may have `project/` before them. `latest` is the run that was started last, and
    `project/latest` that of a project.

    Raises:
        RunNotFound: if no run matches, or more than one. The error lists these.
    """
    if not run:  # it would match every id; in a shell, it is often an unset variable
        raise RunNotFound(
            "the run name is empty; use an id, the start of an id, a name, project/id, a folder, or latest"
        )
    try:
        if any((Path(run) / name).is_file() for name in ("journal.db", SUMMARY_NAME)):
            return Path(os.path.abspath(run))
    except (OSError, ValueError) as error:
        raise RunNotFound(f"no run {run!r}: {_reason(error)}") from error
    project, _, last_part = run.rpartition("/")
    if not last_part:
        raise RunNotFound(f"{run!r} names a project without a run; use project/id")
    runs = all_runs(base, removed=True)
    parents = (project, safe_filename(project))
    below = [folder for folder in runs if folder.parent.name in parents] if project else runs
    matches = _matches(below, last_part)
    if not matches and project:  # a name may contain a slash itself
        matches = _of_name(runs, run)
    if len(matches) == 1:
        return Path(os.path.abspath(matches[0]))
    if matches:
        raise RunNotFound(f"{run!r} matches {len(matches)} runs: {_candidates(matches)}. Use an id, or project/id")
    raise RunNotFound(f"no run {run!r} under {base}. List runs with: tracelet runs. TRACELET_DIR sets the folder")


def _matches(runs: Sequence[Path], run: str) -> list[Path]:
    """Return the runs of this id; else the last one; else those whose ids begin so; else those of this name."""
    return (
        [folder for folder in runs if folder.name == run]
        or (_latest(runs) if run == LATEST else [])
        or [folder for folder in runs if folder.name.startswith(run)]
        or _of_name(runs, run)
    )


def _of_name(runs: Iterable[Path], name: str) -> list[Path]:
    return [folder for folder, info in _described(runs) if info.name == name]


def _latest(runs: Iterable[Path]) -> list[Path]:
    """Return the run that was started last, if there is one."""
    started = [(info.created, folder) for folder, info in _described(runs)]
    return [max(started)[1]] if started else []


def _candidates(folders: Sequence[Path]) -> str:
    """Return the first runs of a list with their projects and names."""
    names = {folder: info.name for folder, info in _described(folders[:_MAX_CANDIDATES])}
    texts = [
        f"{folder.parent.name}/{folder.name}" + (f" ({names[folder]})" if names.get(folder) else "")
        for folder in folders[:_MAX_CANDIDATES]
    ]
    return ", ".join([*texts, *(["..."] if len(folders) > _MAX_CANDIDATES else [])])


def _described(runs: Iterable[Path]) -> Iterator[tuple[Path, RunInfo]]:
    """Yield each readable run with its description."""
    for folder in runs:
        with contextlib.suppress(JournalError), JournalReader(folder) as reader:
            yield folder, edits.read(folder).apply(reader.info())


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
