"""Base class of backends that write a run to a folder of files, each batch exactly once."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tracelet.backends.base import Backend, BackendConfig, Batch, Status
from tracelet.backends.commit_log import CommitLog, claim, has_state, replace
from tracelet.backends.exceptions import UNAVAILABLE, Translated, Verdict, translated
from tracelet.backends.file_names import FileNames, copy
from tracelet.backends.presentation import read_payload
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.filesystem import make_private
from tracelet.records import Alert, Artifact, File, Payload, Record, RunInfo, Scalar, Summary, Tags

_ERRORS: Mapping[str, Verdict] = {"_csv.Error": UNAVAILABLE, "builtins.FileNotFoundError": UNAVAILABLE}
ARTIFACTS, ALERTS = "artifacts.jsonl", "alerts.jsonl"
_RUN, _SUMMARY = "run.json", "summary.json"


class FolderConfig(BackendConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`dir` is the folder to write to; default: a folder in the run's folder.

    If `dir` holds another run, its subfolder `<run id>` is used.
    """

    path_keys = ("dir",)

    dir: str | None = None


class FolderBackend(Backend):
    """Write a run to a folder. Written records survive a kill of the process.

    The files hold each batch once or not at all, also if the process is killed or the disk is full in the middle of
    it. `open` returns the last record in the folder. A subclass writes most kinds of record; this class
    writes artifacts, alerts, the summary and tags.
    """

    Config = FolderConfig
    kept_files: tuple[str, ...] = (ARTIFACTS, ALERTS)
    """Text files to which the subclass appends. They mark a folder as taken."""
    merged_files: tuple[str, ...] = ()
    """Names that `merge` may have."""

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        # Resolved now: the program may change its working directory before `open`.
        self._dir = None if self.config.dir is None else Path(self.config.dir).expanduser().absolute()
        self._log: CommitLog | None = None
        self._last = 0
        self._is_consistent = True

    # For subclasses.

    def write_record(self, record: Record) -> None:
        """Write a record: `append`, or a file of its own at a path that is the same after a kill."""
        raise NotImplementedError(f"{type(self).__name__}.write_record")

    created: float = 0.0
    """The start of the run."""

    def read_folder(self) -> None:
        """Read what is in the folder. Called after `open`, and after a partial batch was removed."""

    def before_commit(self) -> None:
        """Append what a subclass has in memory."""

    def append(self, name: str, data: bytes, *, header: bytes = b"") -> None:
        """Append to a file at the end of the batch, after `header` if the file is empty."""
        self._pending.setdefault(name, (header, []))[1].append(data)

    def append_line(self, name: str, line: Mapping[str, Any]) -> None:
        """Append a line of JSON."""
        # UTF-8 cannot encode a lone surrogate. In JSON, its escape is read back as the original.
        text = json.dumps(line, ensure_ascii=False, default=str) + "\n"
        self.append(name, text.encode("utf-8", "backslashreplace"))

    def merge(self, name: str, values: Mapping[str, Any]) -> None:
        """Merge values into a file of JSON at the end of the batch."""
        self._merged[name].update(values)
        self._changed.add(name)

    def read_json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        with _unchanged(path), contextlib.suppress(FileNotFoundError):
            return dict(json.loads(path.read_text(encoding="utf-8")))
        return {}

    # As the delivery calls it.

    def open(self, run: RunInfo) -> int:
        earlier = self._log
        is_lost = earlier is not None and not earlier.is_in_place
        with self._translated():
            owner = f"{run.run_id} {run.created!r}"  # a later run may have the id again, with another journal
            if self._dir is None:
                self.folder = Path(run.folder, self.name).absolute()
                if is_lost and has_state(self.folder):
                    raise BackendUnavailable(f"{self.name}: another process writes to {self.folder}")
                # If the run's folder was deleted, wait until the journal, and with it the run's lock, is restored.
                make_private(self.folder, parents=not is_lost)
            else:
                # Ranks may share a run id. Each has its own journal, and so its own sequence numbers.
                owner = f"{owner} {os.path.realpath(run.folder)}"
                self.folder = claim(self._dir, owner, run.run_id, self.kept_files)
            self._log = CommitLog(self.folder, owner, self.kept_files)
            if earlier is not None:
                earlier.close()
            self.created = run.created
            self._read()
            self._run = msgspec.to_builtins(run) | {"status": "running", "exit_code": None}
            self._add_tags(self.read_json(_RUN).get("tags", ()))  # from an earlier process
            self._write_json(_RUN, self._run)
            return self._log.last

    def write(self, batch: Batch) -> None:
        with self._translated():
            log = self._consistent_log()
        with self._translated(records=True):
            self._is_consistent = False
            self._changed: set[str] = set()
            for record in batch:
                if record.__class__ is Scalar:  # most records
                    self.write_record(record)
                else:
                    self._write_record(record)
            self.before_commit()
            for name in dict.fromkeys((*self.kept_files, *self._pending)):  # the largest file first
                header, parts = self._pending.get(name, (b"", ()))
                if parts:
                    log.append(name, b"".join(parts), header=header)
            self._pending.clear()
            for name in sorted(self._changed):
                self._write_json(name, self._merged[name])
            log.commit(batch.last)
            self._is_consistent = True

    def _write_record(self, record: Record) -> None:
        match record:
            case Artifact():
                self._write_artifact(record)
            case Alert():
                self.append_line(ALERTS, msgspec.structs.asdict(record))
            case Summary(values):
                self.merge(_SUMMARY, values)
            case Tags(tags):
                self._add_tags(tags)
                self._merged[_RUN] = self._run
                self._changed.add(_RUN)
            case _:
                self.write_record(record)

    def durable(self) -> int:
        """Return the last sequence number that the operating system has; a kill of the process does not lose it."""
        if self._log is None:
            return self._last
        return self._log.last if self._log.is_in_place and self._log.damaged is None else 0

    def flush(self) -> None:
        """Flush to the disk, so that records also survive a power failure."""
        if self._log is not None:
            with self._translated():
                self._log.sync()

    def close(self, status: Status, exit_code: int) -> None:
        if self._log is None:
            return
        with self._translated():
            log = self._consistent_log()
            log.sync()
            log.close()
            self._write_json(_RUN, self._run | {"status": status, "exit_code": exit_code})
            self.after_close()
        self._last, self._log = self._log.last, None

    def after_close(self) -> None:
        """Write what can be derived from the complete files."""

    @property
    def url(self) -> str | None:
        return None if self._log is None else str(self.folder)

    def _consistent_log(self) -> CommitLog:
        """Return the open log, after removing a partial batch from the files."""
        if self._log is None:
            raise BackendUnavailable(f"{self.name}: not open")
        if not self._log.is_in_place:
            self._log.close_files()
            raise BackendUnavailable(f"{self.name}: {self.folder} was deleted or moved", reopen=True)
        damaged = self._log.damaged
        if damaged is not None:
            self._log.close_files()
            place = self.folder / damaged
            raise BackendUnavailable(f"{self.name}: {place} was deleted, replaced or shortened", reopen=True)
        if not self._is_consistent:
            self._log.restore()
            self._read()
            self._is_consistent = True
        return self._log

    def _read(self) -> None:
        self._pending: dict[str, tuple[bytes, list[bytes]]] = {}
        self._merged = {name: self.read_json(name) for name in (_SUMMARY, *self.merged_files)}
        self._artifacts = FileNames(self.folder / "artifacts")
        path = self.folder / ARTIFACTS
        with _unchanged(path):
            for line in read_lines(path):
                for file in json.loads(line)["files"]:
                    self._artifacts.claim(file["name"])
        self.read_folder()

    def _add_tags(self, tags: Iterable[str]) -> None:
        self._run["tags"] = list(dict.fromkeys([*self._run["tags"], *tags]))

    def _write_artifact(self, record: Artifact) -> None:
        files = []
        folder = record.name.endswith("/")
        for file in record.files:
            # A single file has its own path. Files of a folder, or of a vendor's artifact, are below its name.
            name = record.name if record.type == "file" and not folder else f"{record.name.rstrip('/')}/{file.name}"
            draft = self.folder / ".new"
            copy(file.path, draft)
            path = self._artifacts.put(name, draft)
            files.append({"name": name, "path": f"artifacts/{path}", "size": file.size, "sha256": file.digest})
        line = {"name": record.name, "type": record.type, "wall_time": record.wall_time}
        self.append_line(ARTIFACTS, line | {"metadata": dict(record.metadata), "files": files})

    def _write_json(self, name: str, values: Mapping[str, Any]) -> None:
        text = json.dumps(values, indent=2, ensure_ascii=False, default=str)
        replace(self.folder / name, text.encode("utf-8", "backslashreplace") + b"\n")

    def _translated(self, *, records: bool = False) -> Translated:
        """Raise only the two errors of a backend. `records`: one of the records being written may be invalid."""
        return translated(self.name, _ERRORS, record=records, package="sqlite3")


def payload_path(payload: Payload) -> str:
    if isinstance(payload, File):
        return payload.path
    raise RecordRejected("the payload must be a file")


def payload_bytes(payload: Payload) -> bytes:
    """Return the bytes of a payload.

    Raises:
        RecordRejected: the file is missing.
    """
    try:
        return read_payload(payload)
    except FileNotFoundError as error:
        raise RecordRejected(f"the file {error.filename!r} is missing") from error


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines; none if the file is missing."""
    if path.exists():
        with open(path, encoding="utf-8") as file:
            yield from file


@contextlib.contextmanager
def _unchanged(path: Path) -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise BackendUnavailable(f"{path} was changed and is not valid JSON ({error}). Repair or move it") from error
