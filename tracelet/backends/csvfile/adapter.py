"""Write a run to a folder of plain files: CSV for numbers, JSON for texts and parameters, files for other records."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tracelet.backends.base import Backend, Batch, Status
from tracelet.backends.csvfile.commit_log import CommitLog, claim, has_state, replace
from tracelet.backends.csvfile.file_names import FileNames, copy, safe_path
from tracelet.backends.csvfile.pivot import write_wide
from tracelet.backends.csvfile.rows import read_lines, read_rows, write_table
from tracelet.backends.exceptions import REJECTED, UNAVAILABLE, Translated, Verdict, verdict
from tracelet.errors import BackendError, BackendUnavailable, RecordRejected
from tracelet.filesystem import create, make_private
from tracelet.guard import logger
from tracelet.records import (
    Alert,
    Artifact,
    Audio,
    Embedding,
    File,
    Graph,
    Histogram,
    Image,
    Layout,
    Mesh,
    Params,
    Payload,
    PRCurve,
    RawSummary,
    Record,
    RunInfo,
    Scalar,
    Summary,
    Table,
    Tags,
    Tensor,
    Text,
    Video,
    kind,
    shown_step,
)

_ERRORS: Mapping[str, Verdict] = {"_csv.Error": UNAVAILABLE, "builtins.FileNotFoundError": UNAVAILABLE}
_SCALARS, _METRICS, _MEDIA = "scalars.csv", "metrics.csv", "media.csv"
_ARTIFACTS, _ALERTS = "artifacts.jsonl", "alerts.jsonl"
_RUN, _PARAMS, _SUMMARY = "run.json", "config.json", "summary.json"
_LINES: dict[type[Record], str] = {Text: "texts.jsonl", Histogram: "histograms.jsonl", PRCurve: "pr_curves.jsonl"}
_FILES = {
    _SCALARS: "tag,step,wall_time,value\r\n",
    _MEDIA: "kind,tag,step,wall_time,path,details\r\n",
    _ARTIFACTS: "",
    _ALERTS: "",
    **dict.fromkeys(_LINES.values(), ""),
}
_MEDIA_WIDTH = _FILES[_MEDIA].count(",") + 1
# Fields that are no details in the index of media: they have a column, or they are in the file.
_NOT_DETAILS = frozenset(("tag", "data", "parts", "names", "layout", "config", "step", "wall_time", "writer"))

_OneFile = Image | Video | Audio | Tensor | RawSummary

_SHOWN_AS: dict[type[Record], str] = {
    Scalar: "`scalars.csv`, `metrics.csv`",
    Params: "`config.json`",
    Histogram: "`histograms.jsonl`",
    Text: "`texts.jsonl`",
    Table: "`tables/<tag>.csv`",
    PRCurve: "`pr_curves.jsonl`",
    Artifact: "`artifacts/`",
    Summary: "`summary.json`",
    Tags: "`run.json`",
    Alert: "`alerts.jsonl`",
    **dict.fromkeys(
        (Image, Video, Audio, Tensor, Mesh, Embedding, Graph, Layout, RawSummary), "`media/`, listed in `media.csv`"
    ),
}


class CsvConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`dir` is the folder to write to; default: the folder `csv` in the run's folder.

    If `dir` holds another run, its subfolder `<run id>` is used.
    """

    dir: str | None = None


class CsvBackend(Backend):
    """Write a run to a folder of plain files. Written records survive a kill of the process.

    The files hold each batch once or not at all, also if the process is killed or the disk is full in the middle of
    it. After `open`, `durable_seq` is the last record in the folder.
    """

    name = "csv"
    Config = CsvConfig
    persistent_keys = ("dir",)
    shown_as = _SHOWN_AS

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        # Resolved now: the program may change its working directory before `open`.
        self._dir = None if self.config.dir is None else Path(self.config.dir).expanduser().absolute()
        self._log: CommitLog | None = None
        self._is_consistent = True

    def persistent_config(self) -> dict[str, Any]:
        """Return the absolute folder."""
        return {"dir": None if self._dir is None else str(self._dir)}

    def open(self, run: RunInfo) -> None:
        earlier = self._log
        is_lost = earlier is not None and not earlier.is_in_place
        with _translated():
            owner = f"{run.run_id} {run.created!r}"  # a later run may have the id again, with another journal
            if self._dir is None:
                self.folder = Path(run.folder, "csv").absolute()
                if is_lost and has_state(self.folder):
                    raise BackendUnavailable(f"csv: another process writes to {self.folder}")
                # If the run's folder was deleted, wait until the journal, and with it the run's lock, is restored.
                make_private(self.folder, parents=not is_lost)
            else:
                # Ranks may share a run id. Each has its own journal, and so its own sequence numbers.
                owner = f"{owner} {os.path.realpath(run.folder)}"
                self.folder = claim(self._dir, owner, run.run_id, _FILES)
            self._log, self._written = CommitLog(self.folder, owner, _FILES), None
            if earlier is not None:
                earlier.close()
            self._read_folder(self._log)
            self._run = msgspec.to_builtins(run) | {"status": "running", "exit_code": None}
            self._add_tags(self._read_json(_RUN).get("tags", ()))  # from an earlier process
            self._write_json(_RUN, self._run)

    def write(self, batch: Batch) -> None:
        with _translated():
            log = self._consistent_log()
        with _translated(records=True):
            self._is_consistent = False
            merged: dict[str, dict[str, Any]] = {}
            for record in batch:
                if type(record) is Scalar:
                    self._scalar_row((record.tag, shown_step(record.step), record.wall_time, float(record.value)))
                else:
                    self._write_record(log, record)
                    merged |= self._merge(record)
            for name, values in merged.items():
                self._write_json(name, values)
            log.commit(batch.last)
            self._is_consistent = True

    def durable_seq(self) -> int | None:
        """Return the last sequence number that the operating system has; a kill of the process does not lose it."""
        if self._log is None:
            return self._written
        is_intact = self._log.is_in_place and self._log.damaged is None
        return max(self._log.last, self._written or 0) if is_intact else 0

    def flush(self) -> None:
        """Flush to the disk, so that records also survive a power failure."""
        if self._log is not None:
            with _translated():
                self._log.sync()

    def close(self, status: Status, exit_code: int) -> None:
        if self._log is None:
            return
        with _translated():
            log = self._consistent_log()
            log.sync()
            log.close()
            self._write_json(_RUN, self._run | {"status": status, "exit_code": exit_code})
            if (self.folder / _SCALARS).exists() and not write_wide(self.folder / _SCALARS, self.folder / _METRICS):
                logger.warning(
                    "tracelet: csv: metrics.csv is not written: many tags have different steps, so that almost all of "
                    "its cells would be empty. Read %s",
                    self.folder / _SCALARS,
                )
        self._written, self._log = self.durable_seq(), None

    @property
    def url(self) -> str | None:
        return None if self._log is None else str(self.folder)

    def _consistent_log(self) -> CommitLog:
        """Return the open log, after removing a partial batch from the files."""
        if self._log is None:
            raise BackendUnavailable("csv: not open")
        if not self._log.is_in_place:
            self._log.close_files()
            raise BackendUnavailable(f"csv: {self.folder} was deleted or moved", reopen=True)
        damaged = self._log.damaged
        if damaged is not None:
            self._log.close_files()
            raise BackendUnavailable(f"csv: {self.folder / damaged} was deleted, replaced or shortened", reopen=True)
        if not self._is_consistent:
            self._log.restore()
            self._read_folder(self._log)
            self._is_consistent = True
        return self._log

    def _read_folder(self, log: CommitLog) -> None:
        """Read the names in use, and the content of the merged files, from the folder."""
        self._scalar_row = csv.writer(log.pending[_SCALARS]).writerow
        self._media_row = csv.writer(log.pending[_MEDIA]).writerow
        self._params, self._summary = self._read_json(_PARAMS), self._read_json(_SUMMARY)
        self._tables = FileNames(self.folder / "tables", ".csv")
        self._artifacts = FileNames(self.folder / "artifacts")
        self._media_count = 0
        for media_kind, tag, *_ in read_rows(self.folder / _MEDIA, _MEDIA_WIDTH):
            self._media_count += 1
            if media_kind == "table":
                self._tables.claim(tag)
        path = self.folder / _ARTIFACTS
        with _unchanged(path):
            for line in read_lines(path):
                for file in json.loads(line)["files"]:
                    self._artifacts.claim(file["name"])

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        with _unchanged(path), contextlib.suppress(FileNotFoundError):
            return dict(json.loads(path.read_text(encoding="utf-8")))
        return {}

    def _merge(self, record: Record) -> dict[str, dict[str, Any]]:
        """Merge a record that has no line of its own. Return the file to write, with its new content."""
        match record:
            case Params(values):
                self._params.update(values)
                return {_PARAMS: self._params}
            case Summary(values):
                self._summary.update(values)
                return {_SUMMARY: self._summary}
            case Tags(tags):
                self._add_tags(tags)
                return {_RUN: self._run}
        return {}

    def _add_tags(self, tags: Iterable[str]) -> None:
        self._run["tags"] = list(dict.fromkeys([*self._run["tags"], *tags]))

    def _write_record(self, log: CommitLog, record: Record) -> None:
        match record:
            case Text() | Histogram() | PRCurve():
                line = msgspec.structs.asdict(record) | {"step": shown_step(record.step)}
                del line["writer"]
                _write_line(log, _LINES[type(record)], line)
            case Alert():
                _write_line(log, _ALERTS, msgspec.structs.asdict(record))
            case Table():
                draft = self.folder / ".new"
                write_table(record, _payload_path(record.data), draft)
                self._add_to_index(record, f"tables/{self._tables.put(record.tag, draft)}")
            case Artifact():
                self._write_artifact(log, record)
            case Image() | Video() | Audio() | Tensor() | RawSummary():
                path = self._create_path(record, _suffix(record))
                copy(_payload_path(record.data), self.folder / path)
                self._add_to_index(record, path)
            case Layout():
                path = self._create_path(record, ".json")
                with create(self.folder / path, "w", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(record.layout)
                self._add_to_index(record, path)
            case Mesh() | Embedding() | Graph():
                self._write_parts(record)

    def _write_parts(self, record: Mesh | Embedding | Graph) -> None:
        path = self._create_path(record, "")
        folder = self.folder / path
        make_private(folder)
        match record:
            case Embedding(names=names):
                pass
            case Graph():
                names = ("graph.pb", "run_metadata.pb")
            case Mesh():
                names = tuple(f"{number}.ply" for number in range(len(record.parts)))
                with create(folder / "config.json", "w", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(record.config)
        # Parts without a name are stored too.
        names += tuple(f"part{number}" for number in range(len(names), len(record.parts)))
        for name, part in zip(names, record.parts, strict=False):
            copy(_payload_path(part), folder / safe_path(name).replace("/", "_"))
        self._add_to_index(record, path)

    def _create_path(self, record: _OneFile | Layout | Mesh | Embedding | Graph, suffix: str) -> str:
        """Return a path that is unique on any file system, and the same after a kill."""
        name = f"{self._media_count:06d}_step{shown_step(record.step)}{suffix}"
        path = f"media/{kind(record)}/{safe_path(record.tag)}/{name}"
        make_private((self.folder / path).parent)
        return path

    def _add_to_index(self, record: _OneFile | Layout | Mesh | Embedding | Graph | Table, path: str) -> None:
        fields = msgspec.structs.asdict(record)
        details = {name: value for name, value in fields.items() if name not in _NOT_DETAILS}
        cell = json.dumps(details) if details else ""
        self._media_row((kind(record), record.tag, shown_step(record.step), record.wall_time, path, cell))
        self._media_count += 1

    def _write_artifact(self, log: CommitLog, record: Artifact) -> None:
        files = []
        folder = record.name.endswith("/")
        for file in record.files:
            # A single file has its own path. Files of a folder, or of a vendor's artifact, are below its name.
            name = record.name if record.type == "file" and not folder else f"{record.name.rstrip('/')}/{file.name}"
            draft = self.folder / ".new"
            copy(_payload_path(file), draft)
            path = self._artifacts.put(name, draft)
            files.append({"name": name, "path": f"artifacts/{path}", "size": file.size, "sha256": file.digest})
        line = {"name": record.name, "type": record.type, "wall_time": record.wall_time}
        _write_line(log, _ARTIFACTS, line | {"metadata": dict(record.metadata), "files": files})

    def _write_json(self, name: str, values: Mapping[str, Any]) -> None:
        text = json.dumps(values, indent=2, ensure_ascii=False, default=str)
        replace(self.folder / name, text.encode("utf-8", "backslashreplace") + b"\n")


def _translated(*, records: bool = False) -> Translated:
    """Raise only the two errors of a backend. `records`: one of the records being written may be invalid."""

    def translate(error: Exception) -> BackendError | None:
        meaning = None if isinstance(error, BackendError) else verdict(error, "sqlite3", _ERRORS)
        if meaning is None:
            return None
        if meaning == REJECTED and records:
            return RecordRejected(f"csv: {error}", whole=True)
        return BackendUnavailable(f"csv: {error}")

    return Translated(translate)


@contextlib.contextmanager
def _unchanged(path: Path) -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise BackendUnavailable(
            f"csv: {path} was changed and is not valid JSON ({error}). Repair or move it"
        ) from error


def _write_line(log: CommitLog, name: str, line: Mapping[str, Any]) -> None:
    log.pending[name].write(json.dumps(line, ensure_ascii=False, default=str) + "\n")


def _payload_path(payload: Payload) -> str:
    if isinstance(payload, File):
        return payload.path
    raise RecordRejected("csv: the payload must be a file", whole=True)


def _suffix(record: _OneFile) -> str:
    form = getattr(record, "format", "pb" if isinstance(record, RawSummary) else "bin")
    return f".{form}" if form.isalnum() and form.isascii() else ".bin"
