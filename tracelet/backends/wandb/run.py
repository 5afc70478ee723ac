"""Write records to one open wandb run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

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
from tracelet.backends.wandb.durability import SKIPPED, AlreadyWritten, Fingerprint
from tracelet.backends.wandb.errors import dead_service
from tracelet.backends.wandb.shared_run import SharedRun, environment
from tracelet.backends.wandb.transaction_log import TransactionLog
from tracelet.backends.wandb.values import (
    AXIS,
    LEVELS,
    MAX_BINS,
    alert_fields,
    artifact_name,
    artifact_type,
    file_name,
    metric_name,
    param_name,
    plain,
    run_tag,
    strict,
)
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

# Errors with which the server rejects an artifact. Any other error is an outage.
_REJECTED = re.compile(r": input: |returned error 4(?!01|03|08|29)\d\d")
_SYSTEM_METRICS = "system/"
_VIDEO_FORMATS = ("gif", "mp4", "webm", "ogg")

# The results of `OpenRun.send`.
SHOWN_AS: dict[type[Record], str] = {
    Scalar: "a row of the history, over `global_step`",
    Params: "`run.config`",
    Histogram: "`wandb.Histogram`; the exact buckets in a file of the run",
    Image: "a panel of images",
    Video: "a panel of videos",
    Audio: "a panel of sounds",
    Text: "an HTML panel",
    Table: "`wandb.Table`",
    PRCurve: "a precision-recall plot",
    Artifact: "an artifact",
    Summary: "`run.summary`",
    Tags: "`run.tags`",
    Alert: "an alert of the run",
    **dict.fromkeys((Tensor, Mesh, Embedding, Graph, Layout, RawSummary), "an artifact, named by its kind and tag"),
}


class OpenRun:
    """Write records from the start (or reopening) of a wandb run until `close`.

    `shared`: the program can use this run too, so `SharedRun` replaces its `log`. `renamed` maps keys to tags, and is
    shared with later objects of this run. Items in `written` are not sent again. `check` raises BackendUnavailable if
    the server does not answer.
    """

    def __init__(
        self,
        wandb: Any,
        run: Any,
        renamed: dict[str, str],
        written: AlreadyWritten,
        check: Callable[[], None],
        *,
        shared: bool,
    ) -> None:
        self._wandb, self.native, self._renamed, self.written, self._check = wandb, run, renamed, written, check
        self._undo = contextlib.ExitStack()
        self._shared: SharedRun | None = None
        self._log, self._define_metric = run.log, run.define_metric
        self._defined = {AXIS}
        self._names_written = 0
        self._step: int | None = None
        self._system_last = False
        self._histograms: Any = None
        self.file: TransactionLog | None = None
        if run.disabled:
            return
        self._folder = Path(run.settings.sync_dir)
        if not run.settings.x_skip_transaction_log:
            self.file = TransactionLog(Path(run.settings.sync_file))
        # wandb copies artifact files to WANDB_DATA_DIR, by default in the user's home. If an offline run is moved to
        # another machine, they would be missing.
        self._undo.enter_context(environment("WANDB_DATA_DIR", str(self._folder)))
        if shared:
            self._shared = SharedRun(wandb, run, self._define)
            self._log, self._define_metric = self._shared.log, self._shared.define_metric
            self._undo.callback(self._shared.undo)
        self._define_metric(AXIS, hidden=True)

    @property
    def finished(self) -> bool:
        """True if `finish` was called."""
        return bool(self.native._is_finished)

    def close(self) -> None:
        """Release the run object without finishing the run."""
        if self._histograms is not None:
            self._histograms.close()
            self._histograms = None
        with self._undo:
            if self._shared is not None and not self.finished:
                with contextlib.suppress(*dead_service()):
                    self._shared.commit()
            if self._system_last and self._step is not None and not self.finished:
                with contextlib.suppress(*dead_service()):
                    self.native.summary.update({AXIS: self._step})

    def key(self, tag: str) -> str:
        """Return the key of a tag.

        Raises:
            UnicodeEncodeError: the tag has a lone surrogate, which would break its whole row.
        """
        key = metric_name(tag)
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

    def _write_names(self) -> None:
        if self._names_written < len(self._renamed):
            self._names_written = len(self._renamed)
            self.native.config.update({"tracelet_names": dict(self._renamed)}, allow_val_change=True)

    def send_row(self, values: Mapping[str, Any], step: int, wall_time: float, key: str = "") -> Fingerprint:
        for name in [key] if key else values:
            self._define(name)
        self._log({**values, AXIS: step, "_timestamp": wall_time})
        # System metrics use seconds as their step. The axis in the summary must be the program's last step.
        self._system_last = all(name.startswith(_SYSTEM_METRICS) for name in values)
        if not self._system_last:
            self._step = step
        return "row", step, wall_time, key or next(iter(values))

    def send(self, record: Record) -> Fingerprint:
        """Send any record except a scalar."""
        wandb = self._wandb
        match record:
            case Image(data=data, format=form):
                return self._send_media(record, data, form, wandb.Image)
            case Video(data=data, format=form) if form in _VIDEO_FORMATS:
                return self._send_media(record, data, form, wandb.Video)
            case Audio(data=data, format=form):
                return self._send_media(record, data, form, wandb.Audio)
            case Text(text=text):
                return self._send_value(record, wandb.Html(text_html(text), inject=False, data_is_not_path=True))
            case Histogram():
                value = wandb.Histogram(np_histogram=histogram_bars(record, MAX_BINS))
                fingerprint = self._send_value(record, value)
                if fingerprint != SKIPPED:
                    self._append_histogram(record)
                return fingerprint
            case Table(data=data):
                return self._send_table(record, json.loads(read_payload(data)))
            case PRCurve(tag=tag):
                table = wandb.Table(columns=list(CURVE_COLUMNS), data=curve_rows(record))
                fields = {"x": "recall", "y": "precision", "class": "class"}
                titles = {"title": tag, "x-axis-title": "Recall", "y-axis-title": "Precision"}
                plot = wandb.plot_table("wandb/area-under-curve/v0", table, fields, titles, split_table=True)
                key = self._file_key(tag)
                return self._send_once({key: plot}, record, key=f"Custom Chart Tables/{key}_table")
            case Params(values=values):
                update = {param_name(str(name)): plain(value) for name, value in values.items()}
                self.native.config.update(update, allow_val_change=True)
                return "config", update
            case Summary(values=values):
                update = {self.key(name): plain(value) for name, value in values.items()}
                self._write_names()
                self.native.summary.update(update)
                return "summary", update
            case Tags(tags=tags):
                current = tuple(self.native.tags or ())
                new = list(dict.fromkeys(map(run_tag, tags)))
                self.native.tags = (*current, *(tag for tag in new if tag not in current))
                return "tags", new
            case Alert():
                return self._send_alert(record)
            case Artifact():
                facts = {"name": record.name, "type": record.type, "wall_time": record.wall_time}
                if (artifact_name(record.name), artifact_type(record.type)) == (record.name, record.type):
                    facts = {}  # leave the metadata of the program's own wandb.Artifact unchanged
                return self._send_artifact(
                    record.name, record.type, artifact_files(record), {**facts, **record.metadata}
                )
            case _:
                return self._send_files(record)

    def _send_alert(self, alert: Alert) -> Fingerprint:
        title, text = alert_fields(alert.title, alert.text)
        fingerprint = ("alert", title, text, LEVELS.get(alert.level, "INFO"), None)
        if self.written.has_alert(fingerprint):
            return SKIPPED
        self.native.alert(title, text, fingerprint[3])
        return fingerprint

    def _send_value(self, record: Any, value: Any) -> Fingerprint:
        return self._send_once({self._file_key(record.tag): value}, record)

    def _send_once(self, values: Mapping[str, Any], record: Any, key: str = "") -> Fingerprint:
        step = shown_step(record.step)
        if self.written.has_row(step, record.wall_time, key or next(iter(values))):
            return SKIPPED
        return self.send_row(values, step, record.wall_time, key)

    def _file_key(self, tag: str) -> str:
        key = file_name(self.key(tag))
        if key != tag:
            self._renamed[key] = tag
        return key

    def _send_media(self, record: Any, data: Payload, form: str, make: Callable[[str], Any]) -> Fingerprint:
        with self._with_suffix(data, form) as path:
            try:
                media = make(str(path))
            except (self._wandb.Error, OSError, ValueError, SyntaxError, EOFError):
                # Pillow cannot read the file, or is not installed: send an artifact.
                return self._send_files(record)
            return self._send_value(record, media)

    @contextlib.contextmanager
    def _with_suffix(self, data: Payload, form: str) -> Iterator[Path]:
        """Yield the payload as a file with a suffix, from which wandb reads the type. wandb copies the bytes."""
        suffix = f".{''.join(letter for letter in form if letter.isalnum()) or 'bin'}"
        if isinstance(data, File) and data.path.endswith(suffix):
            yield Path(data.path)
            return
        path = self._staged(data, suffix)
        try:
            yield path
        finally:
            path.unlink()

    def _staged(self, data: Payload, suffix: str = "") -> Path:
        """Link or copy the payload to a unique file name inside the run's folder."""
        folder = Path(os.environ.get("WANDB_DATA_DIR", self._folder)) / "artifacts" / "staging"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"tracelet-{uuid.uuid4().hex}{suffix}"
        if isinstance(data, bytes):
            path.write_bytes(data)
            return path
        try:
            os.link(data.path, path)  # avoids a third copy of a large model
        except OSError:
            shutil.copyfile(data.path, path)
        return path

    def _send_table(self, record: Table, table: dict[str, Any]) -> Fingerprint:
        wandb, rows = self._wandb, table["rows"]
        if len(rows) > wandb.Table.MAX_ROWS:  # wandb would drop the remaining rows
            return self._send_files(record)
        value = wandb.Table(columns=[str(name) for name in table["columns"]], data=rows, allow_mixed_types=True)
        return self._send_value(record, value)

    def _append_histogram(self, histogram: Histogram) -> None:
        """Append the exact buckets to a file of the run, because the chart has at most 512."""
        line = json.dumps(histogram_facts(histogram, shown_step(histogram.step)))
        if self._histograms is None:
            # The name is unique per run folder: the server merges the folders, and the last file would win.
            path = Path(self.native.dir) / "tracelet" / f"histograms-{self._folder.name}.jsonl"
            path.parent.mkdir(exist_ok=True)
            self._histograms = path.open("a", encoding="utf-8")
            self.native.save(str(path), base_path=self.native.dir, policy="end")
        self._histograms.write(line + "\n")
        self._histograms.flush()

    def _send_files(self, record: Any) -> Fingerprint:
        """Send a record that wandb has no chart for as an artifact with its files."""
        payloads, facts = record_files(record)
        return self._send_artifact(f"{kind(record)}-{record.tag}", kind(record), payloads, facts)

    def _send_artifact(
        self, name: str, type: str, contents: dict[str, Payload], facts: Mapping[str, Any]
    ) -> Fingerprint:
        artifact = self._wandb.Artifact(
            artifact_name(name),
            artifact_type(type),
            description=facts.get("description"),
            metadata=strict(plain({name: value for name, value in facts.items() if name != "description"})),
        )
        for entry, data in contents.items():
            artifact.add_file(str(self._staged(data)), name=entry, policy="immutable", skip_cache=True)
        if self.native.offline and self.written.has_artifact(artifact.name, artifact.digest):
            return SKIPPED
        if not self.native.offline:
            self._check()  # wandb queries the server here, and would wait 19 s if it is down
        self.native.log_artifact(artifact)
        return ("artifact", artifact.name, artifact.digest) if self.native.offline else ("upload", artifact)


def is_uploaded(artifact: Any) -> bool:
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
