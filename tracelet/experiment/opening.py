"""Describe the run that `start_logging` begins or resumes: its id, folder and group."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from pathlib import Path

import msgspec

from tracelet.capture.values import to_plain
from tracelet.distributed.base_id import agreed_id
from tracelet.distributed.plan import Role
from tracelet.distributed.process import Job, Process
from tracelet.errors import ConfigurationError, JournalError, RunNotFound
from tracelet.filesystem import make_private
from tracelet.guard import logger
from tracelet.journal.lock import is_locked
from tracelet.journal.store import FILE_NAME, JournalReader, is_empty
from tracelet.records import RunInfo
from tracelet.runs.folders import check_run_id, find_run, folder_of_rank, folder_of_run, new_run_id, run_folder
from tracelet.settings import Settings

# Seconds to wait for an earlier process of this rank.
_TIMEOUT = 10.0


def run_info(
    settings: Settings, resume: bool | None, launched: Process | Job | None, role: Role, earlier_runs: int
) -> RunInfo:
    """Return the description of a new run, or that of the run to resume.

    Args:
        resume: As in `start_logging`.
        launched: What this process is for its launcher, which determines an automatic id.
        earlier_runs: Runs that this process has started. Every rank of a job starts the same ones in the same order.
    """
    runs = _runs_folder(settings)
    if settings.run_id is None:
        if resume:
            raise ConfigurationError("resume=True needs the run_id of an existing run")
        base = None if launched is None else _automatic_id(settings, runs, launched, role, earlier_runs)
        if base is None:  # without a common id, this rank shares no run
            role, base = Role(), new_run_id()
    else:
        # The id of a rank's earlier run has the suffix already.
        base = check_run_id(to_plain(settings.run_id)).removesuffix(role.suffix)
    if isinstance(launched, Job) and settings.group is None:
        settings = msgspec.structs.replace(settings, group=launched.group)
    if role.group_suffix is not None and settings.group is None:
        settings = msgspec.structs.replace(settings, group=base + role.group_suffix)
    if settings.children == "join" and role.label is None:
        role = msgspec.structs.replace(role, label="main")
    run_id = check_run_id(base + role.suffix)
    is_known = bool(list(runs.glob(f"*/{run_id}/journal.db")))
    folder = find_run(runs, run_id) if is_known else run_folder(runs, settings.project, run_id)
    folder = folder_of_rank(folder, role.label, role.prefix)
    if is_known:
        if (folder / FILE_NAME).exists() and not is_empty(folder):
            if resume is False and settings.run_id is not None:
                raise ConfigurationError(f"run_id {run_id!r} exists in {folder}; resume=False needs a new run_id")
            with JournalReader(folder) as reader:
                info = reader.info()
            _warn_of_ignored(settings, info)
            return msgspec.structs.replace(info, folder=str(folder), resumed=True, label=role.label, prefix=role.prefix)
    elif resume:
        raise RunNotFound(f"resume=True, but there is no run {run_id!r} under {runs}. Run: tracelet runs")
    return RunInfo(
        run_id=run_id,
        project=to_plain(settings.project),
        name=to_plain(settings.exp_name),
        folder=str(folder),
        tags=tuple(to_plain(settings.tags)),
        notes=to_plain(settings.notes),
        group=to_plain(settings.group),
        created=time.time(),
        program=str(sys.argv[0]) if sys.argv else None,
        label=role.label,
        prefix=role.prefix,
    )


def settings_of_child(parent: Path, settings: Settings) -> tuple[Settings, RunInfo]:
    """Return the settings of a process that may join the run in `parent`, and the description of that run.

    Raises:
        JournalError: the journal cannot be read.
    """
    with JournalReader(parent) as reader:
        info, root = reader.info(), reader.facts().get("root")
    root = root if settings.root_logdir is None else settings.root_logdir
    return msgspec.structs.replace(settings, root_logdir=root, collect=()), info


def child_of(parent: Path, settings: Settings) -> tuple[Settings, RunInfo]:
    """Return the settings and the description of a run for a process that joins it, with a new folder.

    Args:
        parent: The folder of the journal of the process that began the run.
        settings: Those of the child, or of the run.

    Raises:
        JournalError, OSError: that journal cannot be read, or the folder not be created.
    """
    settings, info = settings_of_child(parent, settings)
    beginning = f"{info.label}-" if info.prefix else ""
    for number in itertools.count(1):
        label, prefix = f"{beginning}child-{number}", f"{info.prefix}child-{number}/"
        folder = folder_of_rank(folder_of_run(parent), label, prefix)
        make_private(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            break
    info = msgspec.structs.replace(
        info, folder=str(folder), label=label, prefix=prefix, created=time.time(), resumed=False
    )
    return settings, info


def _runs_folder(settings: Settings) -> Path:
    try:
        runs = Path(settings.dir).absolute()
    except FileNotFoundError:
        raise ConfigurationError(
            f"the working directory was deleted: dir must be absolute, got {settings.dir!r}"
        ) from None
    if "\0" in str(runs):
        raise ConfigurationError(f"dir must not contain a NUL character, got {settings.dir!r}")
    return runs


def _automatic_id(settings: Settings, runs: Path, launched: Process | Job, role: Role, earlier_runs: int) -> str | None:
    """Return the id that all ranks of a job agree on; None if they cannot, or if another process has its run.

    A job that its launcher has restarted gets its run again, but not one that has finished: an id may be used twice.
    """
    if settings.mode == "disabled":
        return None
    try:
        agreed = agreed_id(launched, runs, new_run_id)
    except OSError as error:
        logger.warning(
            "tracelet: the ranks cannot agree on a run id in %s (%s). Set TRACELET_RUN_ID to give them one",
            runs,
            error.strerror or type(error).__name__,
        )
        return None
    number = earlier_runs + 1
    while _has_finished(runs, (base := agreed if number == 1 else f"{agreed}-{number}") + role.suffix, role):
        number += 1
    if not _is_free(runs, base + role.suffix, role):
        logger.warning("tracelet: another process still writes run %s; this one begins its own", base + role.suffix)
        return None
    return base


def _has_finished(runs: Path, run_id: str, role: Role) -> bool:
    """Return True if this rank's part of a run is finished."""
    for folder in runs.glob(f"*/{run_id}"):
        with (
            contextlib.suppress(JournalError),
            JournalReader(folder_of_rank(folder, role.label, role.prefix)) as reader,
        ):
            if reader.facts().get("status") == "finished":
                return True
    return False


def _is_free(runs: Path, run_id: str, role: Role) -> bool:
    """Wait for the end of a process that writes the run: an elastic restart may begin before it has ended."""
    deadline = time.monotonic() + _TIMEOUT
    folders = [folder_of_rank(folder, role.label, role.prefix) for folder in runs.glob(f"*/{run_id}")]
    while any(is_locked(folder) for folder in folders):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _warn_of_ignored(settings: Settings, info: RunInfo) -> None:
    """Log which arguments differ from the description of the resumed run, which stays."""
    wanted = {"name": settings.exp_name, "notes": settings.notes, "group": settings.group}
    ignored = [field for field, value in wanted.items() if value is not None and value != getattr(info, field)]
    if ignored:
        logger.warning("tracelet: run %s is resumed and keeps its own %s", info.run_id, " and ".join(ignored))
