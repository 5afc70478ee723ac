"""Write records to one open wandb run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracelet import records as r
from tracelet.backends.environment import overridden
from tracelet.backends.presentation import (
    CURVE_COLUMNS,
    artifact_files,
    curve_rows,
    histogram_bars,
    histogram_facts,
    read_payload,
    record_files,
    text_html,
)
from tracelet.backends.staging import stage
from tracelet.backends.wandb import values as v
from tracelet.backends.wandb.errors import dead_service, is_torn_down
from tracelet.backends.wandb.host import SharedRun
from tracelet.backends.wandb.transaction_log import TransactionLog
from tracelet.backends.wandb.values import AXIS, MARK
from tracelet.backends.wandb.watermark import Mark, Row
from tracelet.guard import logger

# Errors with which the server rejects an artifact. Any other error is an outage.
_REJECTED = re.compile(r": input: |returned error 4(?!01|03|08|29)\d\d")
_SYSTEM_METRICS = "system/"
_VIDEO_FORMATS = ("gif", "mp4", "webm", "ogg")

# The results of `OpenRun.send`.
SHOWN_AS: dict[type[r.Record], str] = {
    r.Scalar: "a row of the history, over `global_step`",
    r.Params: "`run.config`",
    r.Histogram: "`wandb.Histogram`; the exact buckets in a file of the run",
    r.Image: "a panel of images",
    r.Video: "a panel of videos",
    r.Audio: "a panel of sounds",
    r.Text: "an HTML panel",
    r.Table: "`wandb.Table`",
    r.PRCurve: "a precision-recall plot",
    r.Artifact: "an artifact",
    r.Summary: "`run.summary`",
    r.Tags: "`run.tags`",
    r.Alert: "an alert of the run",
    r.Definition: "`run.define_metric`",
    **dict.fromkeys(
        (r.Tensor, r.Mesh, r.Embedding, r.Graph, r.Layout, r.RawSummary), "an artifact, named by its kind and tag"
    ),
}


class Names:
    """What the objects of one run know of its series: the tags of changed keys, and the program's definitions."""

    def __init__(self) -> None:
        self.renamed: dict[str, str] = {}
        self.definitions: dict[str, r.Definition] = {}


class OpenRun:
    """Write records from the start of a wandb run until `close`.

    `mark` is what the run holds already. `names` is shared with later objects of this run. `check` raises
    BackendUnavailable if the server does not answer.
    """

    def __init__(self, wandb: Any, run: Any, mark: Mark, names: Names, check: Callable[[], None]) -> None:
        self._wandb, self.native, self._check = wandb, run, check
        self._renamed, self._definitions = names.renamed, names.definitions
        self.sent = mark
        """What was sent. An artifact of an online run is missing until it is uploaded, since it is in no file."""
        self.held_at_open = self._held = mark.limited()
        self._marked = mark.text()
        self._unmarked_since: float | None = None
        self._uploads: dict[int, Any] = {}
        self._undo = contextlib.ExitStack()
        self._defined = {AXIS}
        self._names_written = 0
        self._step: int | None = None
        self._shown_step: int | None = None
        self._histograms: Any = None
        self._file: TransactionLog | None = None
        if run.disabled:
            return
        self._folder = Path(run.settings.sync_dir)
        if not run.settings.x_skip_transaction_log:
            self._file = TransactionLog(Path(run.settings.sync_file))
        # wandb copies artifact files to WANDB_DATA_DIR, by default in the user's home. If an offline run is moved to
        # another machine, they would be missing.
        if "WANDB_DATA_DIR" not in os.environ:
            self._undo.enter_context(overridden("WANDB_DATA_DIR", str(self._folder)))
        self._shared = SharedRun(wandb, run, self._define)
        self._undo.callback(self._shared.undo)
        self._log, self._define_metric = self._shared.log, self._shared.define_metric
        self._define_metric(AXIS, hidden=True)
        self._define_metric(MARK, hidden=True, summary="none")

    @property
    def finished(self) -> bool:
        """True if the program called `finish` or tore wandb down."""
        run = self.native
        return not run.disabled and (bool(run._is_finished) or is_torn_down(self._wandb, run))

    def close(self) -> None:
        """Release the run object without finishing the run."""
        if self._histograms is not None:
            self._histograms.close()
            self._histograms = None
        with self._undo:
            if not (self.native.disabled or self.finished):
                with contextlib.suppress(*dead_service()):
                    self._shared.commit()
                    self.send_mark()
                    if self._step is not None and self._step != self._shown_step:
                        self.native.summary.update({AXIS: self._step})

    # What it holds.

    def confirmed(self) -> int:
        """Return the last sequence number up to which the run's file holds all records, after reading its new rows."""
        self._held = self.sent if self._file is None else self._file.last_mark(self.sent.journal) or self._held
        return self._held.low

    @property
    def has_all(self) -> bool:
        """True if the last `confirmed` had all rows and facts that were sent."""
        return self._file is None or (self._unmarked_since is None and self._held.text() == self._marked)

    @property
    def is_uploading(self) -> bool:
        """True if the server lacks an artifact of an online run."""
        return bool(self._uploads)

    @property
    def has_ended(self) -> bool:
        """True if the end of the run is in its file."""
        return self._file is None or self._file.ended

    def mark_uploads(self) -> None:
        """Count the artifacts of an online run that the server has, or has rejected for ever."""
        uploaded = [number for number, artifact in self._uploads.items() if _is_uploaded(artifact)]
        for number in uploaded:
            del self._uploads[number]
        if uploaded:
            self._done(uploaded)

    def send_mark(self, older_than: float = 0.0) -> None:
        """Send a row with the mark alone, if what was sent last, so many seconds ago, is in no row."""
        if self._unmarked_since is not None and time.monotonic() - self._unmarked_since >= older_than:
            self._mark_row({}, ())

    def _mark_row(self, row: Mapping[str, Any], numbers: Sequence[int]) -> None:
        self._marked = self.sent.text(numbers)
        self._log({**row, MARK: self._marked})
        self.sent.done(numbers)
        self._unmarked_since = None

    def skip(self, number: int) -> None:
        """Count a record that wandb rejects."""
        self._done([number])

    def _done(self, numbers: Sequence[int]) -> None:
        self.sent.done(numbers)
        self._unmarked_since = time.monotonic()

    # Names.

    def key(self, tag: str) -> str:
        """Return the key of a tag.

        Raises:
            UnicodeEncodeError: the tag has a lone surrogate, which would break its whole row.
        """
        key = v.metric_name(tag)
        if key != tag:
            self._renamed[key] = tag
        key.encode()
        return key

    def _define(self, key: str) -> None:
        """Define the axis of a key once per file. A glob would also match the program's own metrics."""
        if key in self._defined:
            return
        self._define_metric(key, step_metric=AXIS, step_sync=False)
        self._defined.add(key)
        self._write_names()

    def _define_series(self, key: str) -> None:
        """Define a series of numbers as the program did. Its axis must be in the same row, unlike that of media."""
        tag = self._renamed.get(key, key)
        name = None if r.is_system_metric(tag) else r.defined_name(tag, self._definitions)
        if key in self._defined or name is None:
            self._define(key)
            return
        own = self._definitions[name]
        axis = AXIS if own.step_metric in (None, tag) else self.key(own.step_metric)
        summary = ",".join(own.summary) or None
        self._define_metric(key, step_metric=axis, step_sync=False, hidden=own.hidden or None, summary=summary)
        self._defined.add(key)
        self._write_names()

    def _redefine(self, definition: r.Definition) -> None:
        self._definitions[definition.tag] = definition
        names = (definition.tag,)
        self._defined -= {key for key in self._defined if r.defined_name(self._renamed.get(key, key), names)}
        self._defined.add(AXIS)

    def _write_names(self) -> None:
        if self._names_written < len(self._renamed):
            self._names_written = len(self._renamed)
            self.native.config.update({"tracelet_names": dict(self._renamed)}, allow_val_change=True)

    def _file_key(self, tag: str) -> str:
        key = v.file_name(self.key(tag))
        if key != tag:
            self._renamed[key] = tag
        return key

    # Rows.

    def send_scalars(self, row: Row) -> None:
        for key in row.values:
            self._define_series(key)
        self._send_row(row.values, row.step, row.wall_time, row.numbers)

    def _send_row(
        self, values: Mapping[str, Any], step: int | None, wall_time: float, numbers: Sequence[int], key: str = ""
    ) -> None:
        for name in [key] if key else values:
            self._define(name)
        self._shown_step = r.shown_step(step)
        # System metrics use seconds as their step. The axis in the summary must be the program's last step.
        if step is not None and not all(name.startswith(_SYSTEM_METRICS) for name in values):
            self._step = step
        self._mark_row({**values, AXIS: self._shown_step, "_timestamp": wall_time}, numbers)

    def send(self, record: r.Record, number: int) -> None:
        """Send any record except a scalar."""
        wandb = self._wandb
        match record:
            case r.Image(data=data, format=form):
                self._send_media(record, number, data, form, wandb.Image)
            case r.Video(data=data, format=form) if form in _VIDEO_FORMATS:
                self._send_media(record, number, data, form, wandb.Video)
            case r.Audio(data=data, format=form):
                self._send_media(record, number, data, form, wandb.Audio)
            case r.Text(text=text):
                html = wandb.Html(text_html(text), inject=False, data_is_not_path=True)
                self._send_value(record, number, html)
            case r.Histogram():
                self._send_value(record, number, wandb.Histogram(np_histogram=histogram_bars(record, v.MAX_BINS)))
                self._append_histogram(record)
            case r.Table(data=data):
                self._send_table(record, number, json.loads(read_payload(data)))
            case r.PRCurve(tag=tag):
                table = wandb.Table(columns=list(CURVE_COLUMNS), data=curve_rows(record))
                fields = {"x": "recall", "y": "precision", "class": "class"}
                titles = {"title": tag, "x-axis-title": "Recall", "y-axis-title": "Precision"}
                plot = wandb.plot_table("wandb/area-under-curve/v0", table, fields, titles, split_table=True)
                key = self._file_key(tag)
                shown = f"Custom Chart Tables/{key}_table"
                self._send_row({key: plot}, record.step, record.wall_time, [number], shown)
            case r.Params() | r.Summary() | r.Tags() | r.Alert() | r.Definition():
                self._send_fact(record)
                self._done([number])
                if isinstance(record, r.Alert):
                    self.send_mark()  # a repeated alert would be sent to people again
            case r.Artifact():
                facts = {"name": record.name, "type": record.type, "wall_time": record.wall_time}
                if (v.artifact_name(record.name), v.artifact_type(record.type)) == (record.name, record.type):
                    facts = {}  # leave the metadata of the program's own wandb.Artifact unchanged
                files = artifact_files(record)
                self._send_artifact(record.name, record.type, number, files, {**facts, **record.metadata})
            case _:
                self._send_files(record, number)

    def _send_fact(self, record: r.Params | r.Summary | r.Tags | r.Alert | r.Definition) -> None:
        match record:
            case r.Definition():
                self._redefine(record)
            case r.Params(values=values):
                update = {v.param_name(str(name)): v.plain(value) for name, value in values.items()}
                self.native.config.update(update, allow_val_change=True)
            case r.Summary(values=values):
                update = {self.key(name): v.plain(value) for name, value in values.items()}
                self._write_names()
                self.native.summary.update(update)
            case r.Tags(tags=tags):
                self.native.tags = tuple(dict.fromkeys((*(self.native.tags or ()), *map(v.run_tag, tags))))
            case r.Alert(level=level):
                title, text = v.alert_fields(record.title, record.text)
                self.native.alert(title, text, v.LEVELS.get(level, "INFO"))

    def _send_value(self, record: Any, number: int, value: Any) -> None:
        self._send_row({self._file_key(record.tag): value}, record.step, record.wall_time, [number])

    # Files.

    def _send_media(self, record: Any, number: int, data: r.Payload, form: str, make: Callable[..., Any]) -> None:
        with self._with_suffix(data, form) as path:
            try:
                media = make(str(path), caption=record.caption or None)
            except (self._wandb.Error, OSError, ValueError, SyntaxError, EOFError):
                # Pillow cannot read the file, or is not installed: send an artifact.
                self._send_files(record, number)
            else:
                self._send_value(record, number, media)

    @contextlib.contextmanager
    def _with_suffix(self, data: r.Payload, form: str) -> Iterator[Path]:
        """Yield the payload as a file with a suffix, from which wandb reads the type. wandb copies the bytes."""
        suffix = f".{''.join(letter for letter in form if letter.isalnum()) or 'bin'}"
        if isinstance(data, r.File) and data.path.endswith(suffix):
            yield Path(data.path)
            return
        path = self._staged(data, suffix)
        try:
            yield path
        finally:
            path.unlink()

    def _staged(self, data: r.Payload, suffix: str = "") -> Path:
        """Link or copy the payload to a unique file name inside the run's folder."""
        folder = Path(os.environ.get("WANDB_DATA_DIR", self._folder)) / "artifacts" / "staging"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"tracelet-{uuid.uuid4().hex}{suffix}"
        stage(data, path)
        return path

    def _send_table(self, record: r.Table, number: int, table: dict[str, Any]) -> None:
        wandb, rows = self._wandb, table["rows"]
        if len(rows) > wandb.Table.MAX_ROWS:  # wandb would drop the remaining rows
            self._send_files(record, number)
            return
        columns = [str(name) for name in table["columns"]]
        self._send_value(record, number, wandb.Table(columns=columns, data=rows, allow_mixed_types=True))

    def _append_histogram(self, histogram: r.Histogram) -> None:
        """Append the exact buckets to a file of the run, because the chart has at most 512."""
        line = json.dumps(histogram_facts(histogram, r.shown_step(histogram.step)))
        if self._histograms is None:
            # The name is unique per run folder: the server merges the folders, and the last file would win.
            path = Path(self.native.dir) / "tracelet" / f"histograms-{self._folder.name}.jsonl"
            path.parent.mkdir(exist_ok=True)
            self._histograms = path.open("a", encoding="utf-8")
            self.native.save(str(path), base_path=self.native.dir, policy="end")
        self._histograms.write(line + "\n")
        self._histograms.flush()

    def _send_files(self, record: Any, number: int) -> None:
        """Send a record that wandb has no chart for as an artifact with its files."""
        payloads, facts = record_files(record)
        self._send_artifact(f"{r.kind(record)}-{record.tag}", r.kind(record), number, payloads, facts)

    def _send_artifact(
        self, name: str, type: str, number: int, contents: dict[str, r.Payload], facts: Mapping[str, Any]
    ) -> None:
        artifact = self._wandb.Artifact(
            v.artifact_name(name),
            v.artifact_type(type),
            description=facts.get("description"),
            metadata=v.strict(v.plain({name: value for name, value in facts.items() if name != "description"})),
        )
        for entry, data in contents.items():
            artifact.add_file(str(self._staged(data)), name=entry, policy="immutable", skip_cache=True)
        if not self.native.offline:
            self._check()  # wandb queries the server here, and would wait 19 s if it is down
        self.native.log_artifact(artifact)
        if self.native.offline:
            self._done([number])
        else:
            self._uploads[number] = artifact


def _is_uploaded(artifact: Any) -> bool:
    """Check if the server has received an artifact of an online run, or has rejected it permanently."""
    handle = artifact._save_handle
    while hasattr(handle, "_handle"):
        handle = handle._handle
    if handle._response is None:  # `artifact.wait(timeout=0)` would cancel the upload
        return False
    error = artifact._save_handle.wait_or(timeout=0).response.log_artifact_response.error_message
    rejected = _REJECTED.search(error)
    if rejected:
        logger.warning("wandb: the server rejected artifact %s: %s", artifact.name, error)
    return not error or bool(rejected)
