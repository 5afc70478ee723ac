"""One open wandb run: what a record becomes there."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tracelet.backends.presentation import (
    CURVE_COLUMNS,
    bars,
    content,
    curve_rows,
    entries,
    files,
    histogram_facts,
    text_html,
)
from tracelet.backends.wandb.durability import KNOWN, AlreadyWritten, Fingerprint
from tracelet.backends.wandb.errors import dead_service
from tracelet.backends.wandb.shared_run import SharedRun, environment
from tracelet.backends.wandb.transaction_log import TransactionLog
from tracelet.backends.wandb.values import (
    AXIS,
    LEVELS,
    MAX_BINS,
    alert_words,
    artifact_name,
    artifact_type,
    file_name,
    metric_name,
    param_name,
    plain,
    strict,
    tag_word,
)
from tracelet.records import (
    Alert,
    Artifact,
    Audio,
    File,
    Histogram,
    Image,
    Params,
    Payload,
    PRCurve,
    Record,
    Summary,
    Table,
    Tags,
    Text,
    Video,
    kind,
    shown_step,
)

_logger = logging.getLogger("tracelet")

# The server's last word on an artifact; anything else is an outage.
_REFUSED = re.compile(r": input: |returned error 4(?!01|03|08|29)\d\d")
_MACHINE = "system/"
_VIDEO_FORMATS = ("gif", "mp4", "webm", "ogg")


class OpenRun:
    """Where records go, from the beginning (or the reopening) of a wandb run until `close`.

    `shared`: the program sees this run too, so that its own `log` needs care. `renamed` maps keys to the tags behind
    them; it outlives the run object. `known`: what need not be sent again. `check` raises BackendUnavailable where the
    server does not answer.
    """

    def __init__(
        self,
        wandb: Any,
        run: Any,
        renamed: dict[str, str],
        known: AlreadyWritten,
        check: Callable[[], None],
        *,
        shared: bool,
    ) -> None:
        self._wandb, self.native, self._renamed, self.known, self._check = wandb, run, renamed, known, check
        self._undo = contextlib.ExitStack()
        self._program: SharedRun | None = None
        self._log, self._define_metric = run.log, run.define_metric
        self._defined = {AXIS}
        self._names_told = 0
        self._step: int | None = None
        self._machine_last = False
        self._histograms: Any = None
        self.file: TransactionLog | None = None
        if run.disabled:
            return
        self._folder = Path(run.settings.sync_dir)
        if not run.settings.x_skip_transaction_log:
            self.file = TransactionLog(Path(run.settings.sync_file))
        # wandb copies artifact files below WANDB_DATA_DIR, by default in the user's home: an offline run moved to
        # another machine would lack them.
        self._undo.enter_context(environment("WANDB_DATA_DIR", str(self._folder)))
        if shared:
            self._program = SharedRun(wandb, run, self._define)
            self._log, self._define_metric = self._program.log, self._program.define_metric
            self._undo.callback(self._program.undo)
        self._define_metric(AXIS, hidden=True)

    @property
    def finished(self) -> bool:
        """Whether somebody called `finish`."""
        return bool(self.native._is_finished)

    def close(self) -> None:
        """Let go of the run object; does not finish the run."""
        if self._histograms is not None:
            self._histograms.close()
            self._histograms = None
        with self._undo:
            if self._program is not None and not self.finished:
                with contextlib.suppress(*dead_service()):
                    self._program.commit()
            if self._machine_last and self._step is not None and not self.finished:
                with contextlib.suppress(*dead_service()):
                    self.native.summary.update({AXIS: self._step})

    def key(self, tag: str) -> str:
        key = metric_name(tag)
        if key != tag:
            self._renamed[key] = tag
        key.encode()  # a lone surrogate would break the row it joins
        return key

    def _define(self, key: str) -> None:
        """One exact definition a key and file: a glob would take the program's own metrics as well."""
        if key in self._defined:
            return
        self._define_metric(key, step_metric=AXIS, step_sync=False)
        self._defined.add(key)
        self._tell_names()

    def _tell_names(self) -> None:
        if self._names_told < len(self._renamed):
            self._names_told = len(self._renamed)
            self.native.config.update({"tracelet_names": dict(self._renamed)}, allow_val_change=True)

    def send_row(self, values: Mapping[str, Any], step: int, wall_time: float, key: str = "") -> Fingerprint:
        for name in [key] if key else values:
            self._define(name)
        self._log({**values, AXIS: step, "_timestamp": wall_time})
        # The machine's figures count seconds: the summary's axis is to be where the program was.
        self._machine_last = all(name.startswith(_MACHINE) for name in values)
        if not self._machine_last:
            self._step = step
        return "row", step, wall_time, key or next(iter(values))

    def send(self, record: Record) -> Fingerprint:
        """Hand over any record but a scalar."""
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
                sign = self._send_value(record, wandb.Histogram(np_histogram=bars(record, MAX_BINS)))
                if sign != KNOWN:
                    self._keep_exactly(record)
                return sign
            case Table(data=data):
                return self._send_table(record, json.loads(content(data)))
            case PRCurve(tag=tag):
                table = wandb.Table(columns=list(CURVE_COLUMNS), data=curve_rows(record))
                fields = {"x": "recall", "y": "precision", "class": "class"}
                titles = {"title": tag, "x-axis-title": "Recall", "y-axis-title": "Precision"}
                plot = wandb.plot_table("wandb/area-under-curve/v0", table, fields, titles, split_table=True)
                key = self._file_key(tag)
                shown = f"Custom Chart Tables/{key}_table"
                return self._send_once({key: plot}, record, key=shown)
            case Params(values=values):
                update = {param_name(str(name)): plain(value) for name, value in values.items()}
                self.native.config.update(update, allow_val_change=True)
                return "config", update
            case Summary(values=values):
                figures = {self.key(name): plain(value) for name, value in values.items()}
                self._tell_names()
                self.native.summary.update(figures)
                return "summary", figures
            case Tags(tags=tags):
                held = tuple(self.native.tags or ())
                words = list(dict.fromkeys(map(tag_word, tags)))
                self.native.tags = (*held, *(word for word in words if word not in held))
                return "tags", words
            case Alert():
                return self._send_alert(record)
            case Artifact():
                facts = {"name": record.name, "type": record.type, "wall_time": record.wall_time}
                if (artifact_name(record.name), artifact_type(record.type)) == (record.name, record.type):
                    facts = {}  # the program's own wandb.Artifact keeps its own words, and no others
                return self._send_artifact(record.name, record.type, entries(record), {**facts, **record.metadata})
            case _:
                return self._send_files(record)

    def _send_alert(self, alert: Alert) -> Fingerprint:
        title, text = alert_words(alert.title, alert.text)
        sign = ("alert", title, text, LEVELS.get(alert.level, "INFO"), None)
        if self.known.has_alert(sign):
            return KNOWN
        self.native.alert(title, text, sign[3])
        return sign

    def _send_value(self, record: Any, value: Any) -> Fingerprint:
        return self._send_once({self._file_key(record.tag): value}, record)

    def _send_once(self, values: Mapping[str, Any], record: Any, key: str = "") -> Fingerprint:
        step = shown_step(record.step)
        if self.known.has_row(step, record.wall_time, key or next(iter(values))):
            return KNOWN
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
                # Pillow cannot read it, or is not there: the bytes go as an artifact.
                return self._send_files(record)
            return self._send_value(record, media)

    @contextlib.contextmanager
    def _with_suffix(self, data: Payload, form: str) -> Iterator[Path]:
        """The payload as a file that ends in its format: wandb takes the type from the name, and copies the bytes."""
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
        """A name of our own for the payload's bytes, inside the run's folder."""
        folder = Path(os.environ.get("WANDB_DATA_DIR", self._folder)) / "artifacts" / "staging"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"tracelet-{uuid.uuid4().hex}{suffix}"
        if isinstance(data, bytes):
            path.write_bytes(data)
            return path
        try:
            os.link(data.path, path)  # a large model need not be copied a third time
        except OSError:
            shutil.copyfile(data.path, path)
        return path

    def _send_table(self, record: Table, table: dict[str, Any]) -> Fingerprint:
        wandb, rows = self._wandb, table["rows"]
        if len(rows) > wandb.Table.MAX_ROWS:  # wandb would cut the rest off
            return self._send_files(record)
        value = wandb.Table(columns=[str(name) for name in table["columns"]], data=rows, allow_mixed_types=True)
        return self._send_value(record, value)

    def _keep_exactly(self, histogram: Histogram) -> None:
        """One line with the exact buckets in a file of the run: what is drawn has at most 512."""
        line = json.dumps(histogram_facts(histogram, shown_step(histogram.step)))
        if self._histograms is None:
            # Another name for every folder of the run: on the server they are one, and the last file would win.
            path = Path(self.native.dir) / "tracelet" / f"histograms-{self._folder.name}.jsonl"
            path.parent.mkdir(exist_ok=True)
            self._histograms = path.open("a", encoding="utf-8")
            self.native.save(str(path), base_path=self.native.dir, policy="end")
        self._histograms.write(line + "\n")
        self._histograms.flush()

    def _send_files(self, record: Any) -> Fingerprint:
        """A record that wandb has no chart for, as an artifact with its files."""
        payloads, facts = files(record)
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
        if self.native.offline and self.known.has_artifact(artifact.name, artifact.digest):
            return KNOWN
        if not self.native.offline:
            self._check()  # wandb asks the server here, and would wait 19 s for one that is gone
        self.native.log_artifact(artifact)
        return ("artifact", artifact.name, artifact.digest) if self.native.offline else ("upload", artifact)


def is_up(artifact: Any) -> bool:
    """Whether the server has an artifact that was logged to an online run, or has refused it for good."""
    handle = artifact._save_handle
    while hasattr(handle, "_handle"):
        handle = handle._handle
    if handle._response is None:  # asked this way because `artifact.wait(timeout=0)` cancels the upload
        return False
    error = artifact._save_handle.wait_or(timeout=0).response.log_artifact_response.error_message
    refused = _REFUSED.search(error)
    if refused:
        _logger.warning("wandb: artifact %s was refused: %s", artifact.name, error)
    return not error or bool(refused)
