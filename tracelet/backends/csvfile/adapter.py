"""Write a run to a folder of plain files: CSV for numbers, JSON for texts and parameters, files for other records."""

from __future__ import annotations

import csv
import io
import json

import msgspec

from tracelet import records as r
from tracelet.backends.base import Batch
from tracelet.backends.csvfile.live import LiveMetrics
from tracelet.backends.csvfile.pivot import write_wide
from tracelet.backends.csvfile.rows import read_rows, write_table
from tracelet.backends.file_names import FileNames, copy, safe_path
from tracelet.backends.folder import ALERTS, ARTIFACTS, FolderBackend, FolderConfig, payload_path
from tracelet.filesystem import create, make_private
from tracelet.guard import logger

_SCALARS, _METRICS, _MEDIA = "scalars.csv", "metrics.csv", "media.csv"
_PARAMS = "config.json"
_LINES: dict[type[r.Record], str] = {
    r.Text: "texts.jsonl",
    r.Histogram: "histograms.jsonl",
    r.PRCurve: "pr_curves.jsonl",
}
_FILES = {
    _SCALARS: "tag,step,wall_time,value\r\n",
    _MEDIA: "kind,tag,step,wall_time,path,details\r\n",
    **dict.fromkeys((ARTIFACTS, ALERTS, *_LINES.values()), ""),
}
_MEDIA_WIDTH = _FILES[_MEDIA].count(",") + 1
# Fields that are no details in the index of media: they have a column, or they are in the file.
_NOT_DETAILS = frozenset(("tag", "data", "parts", "names", "layout", "config", "step", "wall_time", "writer"))

_OneFile = r.Image | r.Video | r.Audio | r.Tensor | r.RawSummary

_SHOWN_AS: dict[type[r.Record], str] = {
    r.Scalar: "`scalars.csv`, `metrics.csv`",
    r.Params: "`config.json`",
    r.Histogram: "`histograms.jsonl`",
    r.Text: "`texts.jsonl`",
    r.Table: "`tables/<tag>.csv`",
    r.PRCurve: "`pr_curves.jsonl`",
    r.Artifact: "`artifacts/`",
    r.Summary: "`summary.json`",
    r.Tags: "`run.json`",
    r.Alert: "`alerts.jsonl`",
    **dict.fromkeys(
        (r.Image, r.Video, r.Audio, r.Tensor, r.Mesh, r.Embedding, r.Graph, r.Layout, r.RawSummary),
        "`media/`, listed in `media.csv`",
    ),
}


class CsvConfig(FolderConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`dir` is the folder to write to; default: the folder `csv` in the run's folder.

    If `dir` holds another run, its subfolder `<run id>` is used.
    """


class CsvBackend(FolderBackend):
    """Write a run to a folder of plain files. Written records survive a kill of the process.

    The files hold each batch once or not at all, also if the process is killed or the disk is full in the middle of
    it. `open` returns the last record in the folder.
    """

    name = "csv"
    Config = CsvConfig
    accepts = _SHOWN_AS
    kept_files = tuple(_FILES)
    merged_files = (_PARAMS,)
    _live: LiveMetrics | None = None

    def before_commit(self) -> None:
        for name, buffer in self._rows.items():
            if buffer.tell():
                # UTF-8 cannot encode a lone surrogate. In JSON, its escape is read back as the original.
                self.append(name, _taken(buffer).encode("utf-8", "backslashreplace"), header=_FILES[name].encode())

    def write(self, batch: Batch) -> None:
        super().write(batch)
        assert self._live is not None
        for record in batch:
            if isinstance(record, r.Scalar):
                self._live.add(record)
        self._live.write()

    def flush(self) -> None:
        super().flush()
        if self._live is not None:
            self._live.flush()

    def after_close(self) -> None:
        if (self.folder / _SCALARS).exists() and not write_wide(self.folder / _SCALARS, self.folder / _METRICS):
            logger.warning(
                "tracelet: csv: metrics.csv is not written: many tags have different steps, so that almost all of "
                "its cells would be empty. Read %s",
                self.folder / _SCALARS,
            )

    def read_folder(self) -> None:
        """Read the names in use."""
        self._rows = {name: io.StringIO(newline="") for name in (_SCALARS, _MEDIA)}
        self._scalar_row = csv.writer(self._rows[_SCALARS]).writerow
        self._media_row = csv.writer(self._rows[_MEDIA]).writerow
        self._tables = FileNames(self.folder / "tables", ".csv")
        self._live = LiveMetrics(self.folder / _METRICS)
        self._media_count = 0
        for media_kind, tag, *_ in read_rows(self.folder / _MEDIA, _MEDIA_WIDTH):
            self._media_count += 1
            if media_kind == "table":
                self._tables.claim(tag)

    def write_record(self, record: r.Record) -> None:
        match record:
            case r.Scalar(tag, value, step, wall_time):
                self._scalar_row((tag, r.shown_step(step), wall_time, float(value)))
            case r.Params(values):
                self.merge(_PARAMS, values)
            case r.Text() | r.Histogram() | r.PRCurve():
                line = msgspec.structs.asdict(record) | {"step": r.shown_step(record.step)}
                del line["writer"]
                self.append_line(_LINES[type(record)], line)
            case r.Table():
                draft = self.folder / ".new"
                write_table(record, payload_path(record.data), draft)
                self._add_to_index(record, f"tables/{self._tables.put(record.tag, draft)}")
            case r.Image() | r.Video() | r.Audio() | r.Tensor() | r.RawSummary():
                path = self._create_path(record, _suffix(record))
                copy(payload_path(record.data), self.folder / path)
                self._add_to_index(record, path)
            case r.Layout():
                path = self._create_path(record, ".json")
                with create(self.folder / path, "w", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(record.layout)
                self._add_to_index(record, path)
            case r.Mesh() | r.Embedding() | r.Graph():
                self._write_parts(record)

    def _write_parts(self, record: r.Mesh | r.Embedding | r.Graph) -> None:
        path = self._create_path(record, "")
        folder = self.folder / path
        make_private(folder)
        match record:
            case r.Embedding(names=names):
                pass
            case r.Graph():
                names = ("graph.pb", "run_metadata.pb")
            case r.Mesh():
                names = tuple(f"{number}.ply" for number in range(len(record.parts)))
                with create(folder / "config.json", "w", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(record.config)
        # Parts without a name are stored too.
        names += tuple(f"part{number}" for number in range(len(names), len(record.parts)))
        for name, part in zip(names, record.parts, strict=False):
            copy(payload_path(part), folder / safe_path(name).replace("/", "_"))
        self._add_to_index(record, path)

    def _create_path(self, record: _OneFile | r.Layout | r.Mesh | r.Embedding | r.Graph, suffix: str) -> str:
        """Return a path that is unique on any file system, and the same after a kill."""
        name = f"{self._media_count:06d}_step{r.shown_step(record.step)}{suffix}"
        path = f"media/{r.kind(record)}/{safe_path(record.tag)}/{name}"
        make_private((self.folder / path).parent)
        return path

    def _add_to_index(self, record: _OneFile | r.Layout | r.Mesh | r.Embedding | r.Graph | r.Table, path: str) -> None:
        fields = msgspec.structs.asdict(record)
        details = {name: value for name, value in fields.items() if name not in _NOT_DETAILS}
        if not details.get("caption"):
            details.pop("caption", None)
        cell = json.dumps(details) if details else ""
        self._media_row((r.kind(record), record.tag, r.shown_step(record.step), record.wall_time, path, cell))
        self._media_count += 1


def _taken(buffer: io.StringIO) -> str:
    """Return the text of a buffer, and empty it."""
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text


def _suffix(record: _OneFile) -> str:
    form = getattr(record, "format", "pb" if isinstance(record, r.RawSummary) else "bin")
    return f".{form}" if form.isalnum() and form.isascii() else ".bin"
