"""A folder that needs no program to read: CSV for numbers, JSON for words and settings, files for everything else."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tracelet.backends.base import Backend, Batch, Status
from tracelet.backends.csvfile.commit_log import CommitLog, claim, replace
from tracelet.backends.csvfile.file_names import FileNames, copy, safe_path
from tracelet.backends.csvfile.pivot import write_wide
from tracelet.backends.csvfile.places import PLACES
from tracelet.backends.csvfile.rows import read_lines, read_rows, write_table
from tracelet.errors import BackendUnavailable, RecordRejected
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

_SCALARS, _MEDIA, _ARTIFACTS, _ALERTS = "scalars.csv", "media.csv", "artifacts.jsonl", "alerts.jsonl"
_RUN, _PARAMS, _SUMMARY = "run.json", "config.json", "summary.json"
_LINES: dict[type[Record], str] = {Text: "texts.jsonl", Histogram: "histograms.jsonl", PRCurve: "pr_curves.jsonl"}
_FILES = {
    _SCALARS: "tag,step,wall_time,value\r\n",
    _MEDIA: "kind,tag,step,wall_time,path,details\r\n",
    _ARTIFACTS: "",
    _ALERTS: "",
    **dict.fromkeys(_LINES.values(), ""),
}
# What a medium's row in the index says elsewhere, or what lies in its file.
_NOT_DETAILS = frozenset(("tag", "data", "parts", "names", "layout", "config", "step", "wall_time", "writer"))

_OneFile = Image | Video | Audio | Tensor | RawSummary


class CsvConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`dir`: the folder to write into; default: the folder `csv` of the run. Where another run lies in it already,
    the folder `<run id>` inside it.
    """

    dir: str | None = None


class CsvBackend(Backend):
    """Write a run to a folder of plain files. What is written is held: a kill of the process costs nothing.

    One batch is in the files once or not at all, also when the process is killed or the disk is full in the middle of
    it; `durable_seq` after `open` says how far the folder is.
    """

    name = "csv"
    Config = CsvConfig
    persistent_keys = ("dir",)
    shown_as = PLACES

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        # Taken now: the program may change its working directory before the run is opened.
        self._wanted = None if self.config.dir is None else Path(self.config.dir).expanduser().absolute()
        self._ledger: CommitLog | None = None
        self._whole = True

    def persistent_config(self) -> dict[str, Any]:
        """The folder, as it was meant."""
        return {"dir": None if self._wanted is None else str(self._wanted)}

    def open(self, run: RunInfo) -> None:
        with _translated():
            if self._wanted is None:
                self.folder, owner = Path(run.folder, "csv").absolute(), run.run_id
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            else:
                # Ranks may share a run id, each with a journal and so with sequence numbers of its own.
                owner = f"{run.run_id} {os.path.realpath(run.folder)}"
                self.folder = claim(self._wanted, owner, run.run_id, _FILES)
            self._ledger = CommitLog(self.folder, owner, _FILES)
            self._recall(self._ledger)
            self._run = msgspec.to_builtins(run) | {"status": "running", "exit_code": None}
            self._add_tags(self._read_json(_RUN).get("tags", ()))  # those of an earlier process
            self._write_json(_RUN, self._run)

    def write(self, batch: Batch) -> None:
        with _translated():
            ledger = self._restored()
            self._whole = False
            merged: dict[str, dict[str, Any]] = {}
            for record in batch:
                if type(record) is Scalar:
                    self._scalar_row((record.tag, shown_step(record.step), record.wall_time, float(record.value)))
                else:
                    self._write_one(ledger, record)
                    merged |= self._merge(record)
            for name, values in merged.items():
                self._write_json(name, values)
            ledger.commit(batch.last)
            self._whole = True

    def durable_seq(self) -> int | None:
        """What the operating system has; a kill of the process does not lose it."""
        if self._ledger is None:
            return self._written
        return max(self._ledger.last, self._written or 0)

    def flush(self) -> None:
        """Onto the disk itself, so that a power failure does not lose it either."""
        if self._ledger is not None:
            with _translated():
                self._ledger.sync()

    def close(self, status: Status, exit_code: int) -> None:
        if self._ledger is None:
            return
        with _translated():
            ledger = self._restored()
            ledger.sync()
            ledger.close()
            self._write_json(_RUN, self._run | {"status": status, "exit_code": exit_code})
            if (self.folder / _SCALARS).exists():
                write_wide(self.folder / _SCALARS, self.folder / "metrics.csv")
        self._written, self._ledger = self.durable_seq(), None

    @property
    def url(self) -> str | None:
        return None if self._ledger is None else str(self.folder)

    def _restored(self) -> CommitLog:
        """The ledger, without anything of a batch that was not finished."""
        if self._ledger is None:
            raise BackendUnavailable("csv: not open")
        if not self._whole:
            self._ledger.restore()
            self._recall(self._ledger)
            self._whole = True
        return self._ledger

    def _recall(self, ledger: CommitLog) -> None:
        """Learn from the folder which names are taken, and what was in its merged files."""
        self._scalar_row = csv.writer(ledger.pending[_SCALARS]).writerow
        self._media_row = csv.writer(ledger.pending[_MEDIA]).writerow
        self._params, self._summary = self._read_json(_PARAMS), self._read_json(_SUMMARY)
        self._tables = FileNames(self.folder / "tables", ".csv")
        self._artifacts = FileNames(self.folder / "artifacts")
        self._media = 0
        for what, tag, *_ in read_rows(self.folder / _MEDIA):
            self._media += 1
            if what == "table":
                self._tables.claim(tag)
        for line in read_lines(self.folder / _ARTIFACTS):
            for file in json.loads(line)["files"]:
                self._artifacts.claim(file["name"])

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            raise BackendUnavailable(
                f"csv: {path} was changed and cannot be read ({error}); mend or move it"
            ) from error

    def _merge(self, record: Record) -> dict[str, dict[str, Any]]:
        """Take what has no line of its own: the file to write, and what is in it from now on."""
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

    def _write_one(self, ledger: CommitLog, record: Record) -> None:
        match record:
            case Text() | Histogram() | PRCurve():
                line = msgspec.structs.asdict(record) | {"step": shown_step(record.step)}
                del line["writer"]
                _write_line(ledger, _LINES[type(record)], line)
            case Alert():
                _write_line(ledger, _ALERTS, msgspec.structs.asdict(record))
            case Table():
                draft = self.folder / ".new"
                write_table(record, _path(record.data), draft)
                self._index(record, f"tables/{self._tables.put(record.tag, draft)}")
            case Artifact():
                self._write_artifact(ledger, record)
            case Image() | Video() | Audio() | Tensor() | RawSummary():
                place = self._place(record, _suffix(record))
                copy(_path(record.data), self.folder / place)
                self._index(record, place)
            case Layout():
                place = self._place(record, ".json")
                (self.folder / place).write_text(record.layout, encoding="utf-8", errors="backslashreplace")
                self._index(record, place)
            case Mesh() | Embedding() | Graph():
                self._write_parts(record)

    def _write_parts(self, record: Mesh | Embedding | Graph) -> None:
        place = self._place(record, "")
        folder = self.folder / place
        folder.mkdir(mode=0o700, exist_ok=True)
        match record:
            case Embedding(names=names):
                pass
            case Graph():
                names = ("graph.pb", "run_metadata.pb")
            case Mesh():
                names = tuple(f"{number}.ply" for number in range(len(record.parts)))
                (folder / "config.json").write_text(record.config, encoding="utf-8", errors="backslashreplace")
        # A part without a name, should there be one, is not left out.
        names += tuple(f"part{number}" for number in range(len(names), len(record.parts)))
        for name, part in zip(names, record.parts, strict=False):
            copy(_path(part), folder / safe_path(name).replace("/", "_"))
        self._index(record, place)

    def _place(self, record: _OneFile | Layout | Mesh | Embedding | Graph, suffix: str) -> str:
        """A path that no other medium has, whatever the file system thinks of case; the same one after a kill."""
        name = f"{self._media:06d}_step{shown_step(record.step)}{suffix}"
        place = f"media/{kind(record)}/{safe_path(record.tag)}/{name}"
        (self.folder / place).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return place

    def _index(self, record: _OneFile | Layout | Mesh | Embedding | Graph | Table, path: str) -> None:
        fields = msgspec.structs.asdict(record)
        details = {name: value for name, value in fields.items() if name not in _NOT_DETAILS}
        cell = json.dumps(details) if details else ""
        self._media_row((kind(record), record.tag, shown_step(record.step), record.wall_time, path, cell))
        self._media += 1

    def _write_artifact(self, ledger: CommitLog, record: Artifact) -> None:
        files = []
        folder = record.name.endswith("/")
        for file in record.files:
            # One plain file has its own path; a folder, and a vendor's artifact, hold theirs below their name.
            name = record.name if record.type == "file" and not folder else f"{record.name.rstrip('/')}/{file.name}"
            draft = self.folder / ".new"
            copy(_path(file), draft)
            place = self._artifacts.put(name, draft)
            files.append({"name": name, "path": f"artifacts/{place}", "size": file.size, "sha256": file.digest})
        line = {"name": record.name, "type": record.type, "wall_time": record.wall_time}
        _write_line(ledger, _ARTIFACTS, line | {"metadata": dict(record.metadata), "files": files})

    def _write_json(self, name: str, values: Mapping[str, Any]) -> None:
        text = json.dumps(values, indent=2, ensure_ascii=False, default=str)
        replace(self.folder / name, text.encode("utf-8", "backslashreplace") + b"\n")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error, csv.Error) as error:
        raise BackendUnavailable(f"csv: {error}") from error


def _write_line(ledger: CommitLog, name: str, line: Mapping[str, Any]) -> None:
    ledger.pending[name].write(json.dumps(line, ensure_ascii=False, default=str) + "\n")


def _path(payload: Payload) -> str:
    if isinstance(payload, File):
        return payload.path
    raise RecordRejected("csv: the payload is not in a file", whole=True)


def _suffix(record: _OneFile) -> str:
    form = getattr(record, "format", "pb" if isinstance(record, RawSummary) else "bin")
    return f".{form}" if form.isalnum() and form.isascii() else ".bin"
