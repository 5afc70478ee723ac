"""Deliver runs to the local store of a viewer, which follows active ones.

The journal is only read: a live process may be writing it. The cursors of these deliveries, and the notes of the
backend, are below `.view` in the folder of the runs. So the run has no new backend.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from tracelet.backends.notes import read_note, write_note
from tracelet.backends.viewers import check_viewer, viewer_backend
from tracelet.delivery.past import OnProgress, RecordedEnd, named_as, recorded_end, wait
from tracelet.delivery.thread import Delivery
from tracelet.delivery.throttle import Throttle
from tracelet.errors import BackendUnavailable, RunInUse
from tracelet.filesystem import make_private
from tracelet.guard import Guard
from tracelet.importer import experiments, import_run
from tracelet.journal.lock import lock_run
from tracelet.journal.overflow import OverflowBuffer
from tracelet.journal.store import FILE_NAME, JournalReader, is_live
from tracelet.journal.tables import Cursor, Rejection
from tracelet.records import RunInfo
from tracelet.runs.folders import rank_folders
from tracelet.runs.summary import check_journal

_FOLDER = ".view"
# Seconds without progress until a run is skipped, and for a backend to close.
_PATIENCE, _CLOSE_TIMEOUT = 30.0, 60.0


def view_folder(base: Path) -> Path:
    """Return the folder with the stores of all viewers. Deleting it loses nothing that the runs do not have."""
    return base / _FOLDER


def import_events(logdir: Path, base: Path, project: str | None = None) -> list[Path]:
    """Import a folder of event files for viewing, as `tracelet import`, and return the run folders with records.

    They are below `.view`, and no runs of `base`.

    Raises:
        ConfigurationError: `logdir` is no folder.
        JournalError, RunInUse: as `import_run`.
    """
    imported = view_folder(base) / "imported"
    folders = []
    apart = experiments(logdir)
    for folder in apart:
        name = logdir.resolve().name if folder == logdir else folder.relative_to(logdir).as_posix()
        run = import_run(folder, base=imported, project=project, name=name, apart=apart)
        if run is not None and (run.folder / FILE_NAME).exists():
            folders.append(run.folder)
    return folders


class ViewerStore:
    """The store of one viewer for the runs in `base`. One process at a time may open it.

    Use it as a context manager: at the end, the runs that are still active are closed.

    Raises:
        ConfigurationError, MissingDependency: there is no such viewer, or it is not installed.
        RunInUse: another process has it open.
    """

    def __init__(self, base: Path, viewer: str) -> None:
        check_viewer(viewer)
        self.viewer = viewer
        self.folder = (view_folder(base) / viewer).absolute()
        self.store = self.folder / "store"
        make_private(self.store)
        self._guard = Guard()
        self._runs: dict[Path, _Part] = {}
        self._stack = contextlib.ExitStack()
        try:
            self._stack.enter_context(lock_run(self.folder))
        except RunInUse as error:
            raise RunInUse(f"another `tracelet view` shows runs of {base} in {viewer}; end it first") from error

    def __enter__(self) -> ViewerStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            for part in self._runs.values():
                part.close()

    def deliver(self, run: Path, tell: OnProgress = lambda name, done, total: None) -> int:
        """Deliver the new records of a run, of all its ranks. Return the number of delivered records.

        An active run stays open, so that its status in the viewer is right, until it has ended or the store is closed.

        Raises:
            JournalError: there is no readable journal, or `tracelet gc` removed it.
            BackendUnavailable: the store does not accept the records.
        """
        check_journal(run)
        count = 0
        for folder in (run, *rank_folders(run)):  # first rank 0, which creates the vendor's run
            part = self._runs.get(folder)
            if part is None:
                place = self.folder / "runs" / run.parent.name / run.name / folder.relative_to(run)
                part = self._runs[folder] = _Part(self.viewer, folder, place, self.store, self._guard)
            count += part.deliver(tell)
        return count


class _Note(msgspec.Struct):
    """`view.json`: the progress of a run in a viewer. `end` is the end of the run that the viewer shows, if any."""

    created: float
    cursor: Cursor
    end: RecordedEnd | None = None


class _Part:
    """Deliver the journal of one process of a run. Its notes are in `place`."""

    def __init__(self, viewer: str, folder: Path, place: Path, store: Path, guard: Guard) -> None:
        self._viewer, self._folder, self._place, self._store, self._guard = viewer, folder, place, store, guard
        self._note_path = place / "view.json"
        self._delivery: Delivery | None = None
        self._seen: object = None  # the journal at the last delivery

    def deliver(self, tell: OnProgress) -> int:
        stamp = tuple(self._stamp())
        if self._delivery is None and stamp == self._seen:
            return 0
        self._seen = stamp
        live = is_live(self._folder)  # before `last`: if the run has ended, that is final
        with JournalReader(self._folder) as reader:
            info, last = reader.info(), reader.last()
        end = None if live else recorded_end(self._folder, info.created)
        delivery = self._delivery
        if delivery is None:
            note = self._read_note(info)
            if end is not None and end == note.end and note.cursor.position >= last:
                return 0
            before, delivery = note.cursor.delivered, self._open(info, last, note)
        else:
            before = delivery.cursor.delivered
        with named_as(info.program):
            delivery.request_flush(last)
            wait({f"{info.run_id} {self._viewer}": delivery}, last, _PATIENCE, tell)
        if delivery.position < last:
            reason = delivery.reason or f"no progress for {_PATIENCE:g} s"
            self._finish(end or recorded_end(self._folder, time.time()))
            raise BackendUnavailable(f"{self._folder.name} is not complete in {self._viewer}: {reason}")
        if end is not None:
            self._finish(end)
        return max(0, delivery.cursor.delivered - before)

    def close(self) -> None:
        """Close a run that is still active. The next view opens it again."""
        if self._delivery is not None:
            self._finish(recorded_end(self._folder, time.time()))

    def _stamp(self) -> Iterator[tuple[int, int] | None]:
        """Return what changes with each write to the journal."""
        for name in (FILE_NAME, f"{FILE_NAME}-wal"):
            status = None
            with contextlib.suppress(OSError):
                status = os.stat(self._folder / name)
            yield status and (status.st_mtime_ns, status.st_size)

    def _read_note(self, info: RunInfo) -> _Note:
        note = read_note(self._note_path, _Note)
        return note if note is not None and note.created == info.created else _Note(info.created, Cursor())

    def _open(self, info: RunInfo, last: int, note: _Note) -> Delivery:
        make_private(self._place)
        self._note = note
        info = msgspec.structs.replace(info, folder=str(self._place), resumed=True, is_past=True)
        delivery = self._delivery = Delivery(
            viewer_backend(self._viewer, self._store, info),
            self._folder,
            info,
            note.cursor,
            OverflowBuffer(0),
            start_seq=last,
            report=self._save,
            guard=self._guard,
            on_open=lambda: None,
            throttle=Throttle(pauses=False),
        )
        delivery.start()
        return delivery

    def _save(self, name: str, cursor: Cursor, rejections: Sequence[Rejection]) -> None:
        """Store the cursor. Called on the delivery's thread."""
        self._put(_Note(self._note.created, cursor))

    def _finish(self, end: RecordedEnd) -> None:
        assert self._delivery is not None
        delivery, self._delivery = self._delivery, None
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        delivery.finish(end.status, end.exit_code, deadline, end.time)  # after the rest of the journal
        if delivery.wait_ended(deadline) and delivery.state == "closed":
            self._put(msgspec.structs.replace(self._note, end=end))

    def _put(self, note: _Note) -> None:
        self._note = note
        write_note(self._note_path, json.dumps(msgspec.to_builtins(note)).encode())
