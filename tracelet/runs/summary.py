"""Read the state of a run: from its journal, or from the summary that stays when its journal is removed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from tracelet.backends import offline_recording
from tracelet.backends.notes import write_note
from tracelet.errors import JournalError
from tracelet.journal.status import BackendStatus, State, status_of
from tracelet.journal.store import FILE_NAME, JournalReader, is_live
from tracelet.journal.tables import Cursor
from tracelet.records import RunInfo
from tracelet.runs import edits
from tracelet.runs.folders import SUMMARY_NAME, all_runs

RunStatus: TypeAlias = Literal["running", "crashed", "finished", "failed", "killed"]


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run. `seen` is its end, or its last sign of life if it recorded no end."""

    info: RunInfo
    folder: Path
    status: RunStatus
    seen: float
    records: int
    backends: tuple[BackendStatus, ...]
    exit_code: int | None = None
    """None while the run is active, and if its process was killed."""
    journal_removed: float | None = None
    """When `remove_journal` removed the journal, so that this summary is left."""

    @property
    def duration(self) -> float:
        """Return the seconds from the start of the run to `seen`."""
        return max(0.0, self.seen - self.info.created)


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A run folder with an unreadable journal, and the reason."""

    folder: Path
    reason: str


def summarise(folder: Path) -> RunSummary:
    """Return the state of the run in `folder`, with the edits of its name, notes and tags.

    Raises:
        JournalError: if there is no readable journal.
    """
    if is_removed(folder):
        return _kept_summary(folder)
    with JournalReader(folder) as reader:
        info, facts, records, cursors = reader.info(), reader.facts(), reader.last(), reader.cursors()
        seen = reader.ended()
    status = facts.get("status", "running")
    if status == "running":
        # A killed process cannot record its end.
        live = is_live(folder)
        status = "running" if live else "crashed"
        seen = time.time() if live else seen
    backends = tuple(
        stored_status(name, cursor, records, facts, folder, is_active=status == "running")
        for name, cursor in cursors.items()
    )
    return RunSummary(
        info=edits.read(folder).apply(info),
        folder=folder,
        status=status,
        seen=info.created if seen is None else seen,
        records=records,
        backends=backends,
        exit_code=None if status in ("running", "crashed") else facts.get("exit_code"),
    )


def stored_status(
    name: str, cursor: Cursor, records: int, facts: Mapping[str, Any], folder: Path, *, is_active: bool = False
) -> BackendStatus:
    """Return the status of a backend from its cursor and the facts in the journal."""
    reason, pending_upload = facts.get(f"trouble {name}"), offline_recording(name, folder)
    processed = cursor.delivered + cursor.rejected + cursor.filtered
    state: State = "connected" if is_active else "closed"
    if pending_upload is not None:
        state = "offline"
    elif reason is not None or processed < records:
        state = "waiting"
    submitted = max(records, processed)  # a damaged cursor may count more
    return status_of(
        name, cursor, submitted, state, reason, url=facts.get(f"url {name}"), pending_upload=pending_upload
    )


def summaries(base: Path) -> Iterator[RunSummary | Unreadable]:
    """Yield unreadable runs under `base` first, then all others by start time."""
    readable: list[RunSummary] = []
    for folder in all_runs(base, removed=True):
        try:
            readable.append(summarise(folder))
        except JournalError as error:
            yield Unreadable(folder=folder, reason=str(error))
    yield from sorted(readable, key=lambda summary: (math.isnan(summary.info.created), summary.info.created))


def is_removed(folder: Path) -> bool:
    """Return True if the journal of the run was removed, and its summary is left."""
    return (folder / SUMMARY_NAME).is_file() and not (folder / FILE_NAME).exists()


def check_journal(folder: Path) -> None:
    """Check that the journal of the run was not removed.

    Raises:
        JournalError: it was. The message names the backends that have the records.
    """
    if is_removed(folder):
        states = _kept_summary(folder).backends
        places = ", ".join(f"{state.name} ({state.url})" if state.url else state.name for state in states)
        raise JournalError(f"tracelet gc removed the journal of {folder}; its records are in {places}")


def keep_summary(summary: RunSummary) -> None:
    """Store the summary of a run whose journal is about to be removed.

    Raises:
        OSError: the folder cannot be written.
    """
    kept = msgspec.structs.replace(summary, journal_removed=time.time())
    write_note(summary.folder / SUMMARY_NAME, json.dumps(msgspec.to_builtins(kept, enc_hook=str), indent=2).encode())


def _kept_summary(folder: Path) -> RunSummary:
    path = folder / SUMMARY_NAME
    try:
        kept = msgspec.convert(json.loads(path.read_bytes()), RunSummary, dec_hook=lambda _, __: folder)
        return msgspec.structs.replace(kept, info=edits.read(folder).apply(kept.info))
    except (OSError, ValueError, RecursionError) as error:
        raise JournalError(f"cannot read {path}: {error}") from error
