"""Write one batch as metrics, parameters, tags and files, in requests that a server accepts.

Each point has a fixed time, and each file a fixed path. If a batch is retried after an outage or a kill, existing data
in the store does not change.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tracelet.backends.base import Batch, Written
from tracelet.backends.mlflow.errors import Rejected, converting, translated
from tracelet.backends.mlflow.params import LENGTHS, PARAMS_FILE, Parameters
from tracelet.backends.mlflow.requests import Access
from tracelet.backends.mlflow.run import Target, run_tags
from tracelet.backends.mlflow.staging import Stage
from tracelet.backends.mlflow.summary import SUMMARY_FILE, SummaryMetrics, is_number, summary_name, tag_text
from tracelet.backends.mlflow.timestamps import TimestampDeduplicator
from tracelet.backends.mlflow.values import (
    clean,
    digest,
    file_key,
    int64,
    is_exact,
    key_of,
    milliseconds,
    name_tags,
    param_text,
    weight,
)
from tracelet.backends.paths import Paths
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.guard import logger
from tracelet.records import Alert, Params, Record, Scalar, Summary, Tags, shown_step

T = TypeVar("T")

_MAX_ITEMS = {"metrics": 1000, "params": 100, "tags": 100}
_MAX_BYTES = 900_000
_OVERHEAD = 120
_TABLES_TAG, _IMAGES_TAG = "mlflow.loggedArtifacts", "mlflow.loggedImages"
_ALERT_TAG = "tracelet.alert"
_MAX_TABLES_TAG = 4500  # older servers truncate a tag at 5000 characters
_MAX_CACHED_KEYS = 100_000


class _Point(msgspec.Struct):
    index: int
    metric: Any
    weight: int


class BatchWriter:
    """Write records while a run is open. Caches the key of each tag, but no records."""

    def __init__(self, target: Target, access: Access, secrets: Sequence[str]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._metric, self._param, self._tag = Metric, Param, RunTag
        self._target, self._access, self._secrets = target, access, secrets
        self._timestamps = TimestampDeduplicator()
        self._max_items = dict(_MAX_ITEMS)
        self._paths = Paths()
        self._keys: dict[str, tuple[str, int]] = {}
        tags = target.run.data.tags
        self._name_tags = {name: value for name, value in tags.items() if name.startswith("tracelet.name.")}
        self._tables: list[Any] = json.loads(tags.get(_TABLES_TAG, "[]"))
        self._images = _IMAGES_TAG in tags
        self.params = Parameters(target)
        self.summary = SummaryMetrics(target)

    def send(self, batch: Batch, folder: Path) -> Written | None:
        """Write the batch."""
        written = 0
        try:
            result = _BatchRequest(self, Stage(folder, self._paths)).run(batch)
            written = len(batch) if result is None else result.count
        finally:
            self._timestamps.commit(written)
        return result


class _BatchRequest:
    """The state of one `send`."""

    def __init__(self, writer: BatchWriter, stage: Stage) -> None:
        self._writer, self._stage = writer, stage
        self._points: list[_Point] = []
        self._inexact: list[str] = []
        self._params: dict[str, Any] = {}
        self._summary: dict[str, tuple[int, Any, float]] = {}
        self._tags: dict[str, str] = {}
        self._first_file: int | None = None

    def run(self, batch: Batch) -> Written | None:
        self._end = len(batch)
        try:
            rejected = self._sort(batch)
            self._add_summary()
            self._send_tags()
            rejected = self._send_points() or rejected
            self._send_params()
            self._stage_summary()
            self._send_files()
        except BackendUnavailable as error:
            return Written(self._first_unsent(), error)
        return rejected

    # Sorting.

    def _sort(self, batch: Batch) -> Written | None:
        """Sort records by request, up to the first record that cannot be sent."""
        for index, record in enumerate(batch):
            if type(record) is Scalar:
                self._add_point(index, record)
                continue
            try:
                with converting():
                    self._mark_file(index)
                    self._sort_other(index, record)
            except RecordRejected as error:
                self._end = index
                return Written(index, error)
        return None

    def _sort_other(self, index: int, record: Record) -> None:
        match record:
            case Params(values=values):
                self._params |= values
            case Summary(values=values, wall_time=wall_time):
                # Keep only the last value: of two within a millisecond, MLflow would show the larger.
                self._summary |= {name: (index, value, wall_time) for name, value in values.items()}
            case Tags(tags=tags):
                self._tags |= run_tags(tags)
            case _:
                if isinstance(record, Alert):
                    self._tags[_ALERT_TAG] = clean(tag_text(f"{record.level}: {record.title}"))
                for tag in self._stage.put(record):
                    self._add_name_tags(file_key(tag), tag)

    def _add_summary(self) -> None:
        writer = self._writer
        for name, (index, value, wall_time) in self._summary.items():
            key = key_of(summary_name(name))
            self._add_name_tags(key, summary_name(name))
            if not is_number(value):
                self._tags[key] = clean(tag_text(value))
                continue
            time = writer._timestamps.assign(index, key, 0, milliseconds(wall_time), float(value))
            self._points.append(_Point(index, writer._metric(key, float(value), time, 0), weight(key) + _OVERHEAD))

    def _mark_file(self, index: int) -> None:
        self._first_file = index if self._first_file is None else self._first_file

    def _add_point(self, index: int, scalar: Scalar) -> None:
        key, size = self._writer._keys.get(scalar.tag) or self._new_key(scalar.tag)
        step, value = shown_step(scalar.step), scalar.value
        if not is_exact(value, step, scalar.wall_time):
            self._inexact.append(json.dumps([scalar.tag, value, step, scalar.wall_time]))
            self._mark_file(index)
        step = int64(step)
        time = self._writer._timestamps.assign(index, key, step, milliseconds(scalar.wall_time), value)
        self._points.append(_Point(index, self._writer._metric(key, value, time, step), size))

    def _new_key(self, tag: str) -> tuple[str, int]:
        key = key_of(tag)
        self._add_name_tags(key, tag)
        if len(self._writer._keys) >= _MAX_CACHED_KEYS:
            self._writer._keys.clear()
        self._writer._keys[tag] = key, weight(key) + _OVERHEAD
        return self._writer._keys[tag]

    def _add_name_tags(self, key: str, tag: str) -> None:
        if key != tag:
            for name, value in name_tags(key, tag):
                if self._writer._name_tags.get(name) != value:
                    self._tags[name] = value

    # Sending.

    def _send_tags(self) -> None:
        writer = self._writer
        if self._stage.images and not writer._images:
            self._tags[_IMAGES_TAG] = "True"
        tables = [*writer._tables, *({"path": path, "type": "table"} for path in self._stage.tables)]
        text = json.dumps(tables)
        if len(tables) > len(writer._tables) and len(text) <= _MAX_TABLES_TAG:
            self._tags[_TABLES_TAG] = text
        for name in self._params:
            self._add_name_tags(key_of(name), name)
        self._put_tags(self._tags)
        writer._name_tags |= {name: value for name, value in self._tags.items() if name.startswith("tracelet.name.")}
        writer._images = writer._images or self._stage.images
        if _TABLES_TAG in self._tags:
            writer._tables = tables

    def _put_tags(self, tags: dict[str, str]) -> None:
        entities = [self._writer._tag(name, value) for name, value in tags.items()]
        for chunk in self._chunks(entities, "tags", _entity_size):
            self._log_chunk("tags", chunk, self._tag_rejected)

    def _tag_rejected(self, tag: Any, reason: str) -> None:
        logger.warning("mlflow: the server rejected the run tag %r: %s", tag.key, reason)

    def _send_points(self) -> Written | None:
        """Send the points of the records before the first rejected one."""
        rejected: list[Written] = []

        def on_rejected(point: _Point, reason: str) -> None:
            self._end = point.index
            rejected.append(Written(point.index, RecordRejected(f"mlflow: {reason}")))
            later = self._points[self._points.index(point) + 1 :]  # those of a summary are behind all others
            self._points = [other for other in later if other.index < point.index]
            raise rejected[-1].error

        while self._points:
            chunk = self._chunks(self._points, "metrics", lambda point: point.weight)[0]
            with contextlib.suppress(RecordRejected):
                self._log_chunk("metrics", chunk, on_rejected)
                del self._points[: len(chunk)]
        return rejected[-1] if rejected else None

    def _send_params(self) -> None:
        if not self._params:
            return
        params = self._writer.params
        new = params.new(self._params)
        rejected = self._log_params(new)
        if rejected:
            self._call(params.refresh)
            for limit in LENGTHS[1:]:
                long = {key: param_text(new[key], limit) for key in rejected if len(new[key]) > limit}
                remaining = self._log_params({key: text for key, text in long.items() if key not in params.shown})
                params.max_length = params.max_length if remaining or not long else limit
        tags = params.changed(self._params)
        self._put_tags(tags)
        self._stage.json(PARAMS_FILE, params.update(self._params, tags))
        self._params = {}

    def _log_params(self, texts: dict[str, str]) -> set[str]:
        """Log parameters, and return the rejected keys."""
        rejected: set[str] = set()
        entities = [self._writer._param(key, text) for key, text in texts.items()]
        for chunk in self._chunks(entities, "params", _entity_size):
            self._log_chunk("params", chunk, lambda param, reason: rejected.add(param.key))
        self._writer.params.shown |= {key: text for key, text in texts.items() if key not in rejected}
        return rejected

    def _stage_summary(self) -> None:
        if self._summary:
            values = {name: value for name, (_, value, _) in self._summary.items()}
            self._stage.json(SUMMARY_FILE, self._call(lambda: self._writer.summary.update(values)))

    def _send_files(self) -> None:
        if self._inexact:
            name = digest(self._inexact[0])
            self._stage.lines(f"tracelet/scalar/{name}.jsonl", self._inexact)
        if not self._stage.is_empty:
            try:
                target, folder = self._writer._target, str(self._stage.folder)
                size = self._stage.largest
                self._call(lambda: target.client.log_artifacts(target.id, folder), size=size, rejections=True)
            except Rejected as error:
                raise RecordRejected(f"mlflow: {error}") from error
        self._first_file = None

    def _first_unsent(self) -> int:
        point = self._points[0].index if self._points else self._end
        return min(point, self._end, self._end if self._first_file is None else self._first_file)

    def _chunks(self, items: Sequence[T], kind: str, size: Callable[[T], int]) -> list[Sequence[T]]:
        """Split items into chunks within the limits of number and bytes."""
        chunks: list[Sequence[T]] = []
        index = start = total = 0
        for index, item in enumerate(items):
            total += size(item)
            if index - start >= self._writer._max_items[kind] or (total > _MAX_BYTES and index > start):
                chunks.append(items[start:index])
                start, total = index, size(item)
                if kind == "metrics":  # one chunk at a time, because the limit may shrink when it is sent
                    return chunks
        return [*chunks, items[start:]] if items else chunks

    def _log_chunk(self, kind: str, items: Sequence[Any], on_rejected: Callable[[Any, str], None]) -> bool:
        """Send items. If they are rejected, send halves; if both are accepted, halves become the server's limit."""
        try:
            self._log(kind, items)
            return True
        except Rejected as error:
            if len(items) == 1:
                on_rejected(items[0], str(error))
                return False
        half = len(items) // 2
        accepted = [self._log_chunk(kind, part, on_rejected) for part in (items[:half], items[half:])]
        if all(accepted):
            self._writer._max_items[kind] = min(self._writer._max_items[kind], len(items) - half)
        return all(accepted)

    def _log(self, kind: str, items: Sequence[Any]) -> None:
        entities = [item.metric for item in items] if kind == "metrics" else list(items)
        target = self._writer._target
        self._call(lambda: target.client.log_batch(target.id, synchronous=True, **{kind: entities}), rejections=True)

    def _call(self, function: Callable[[], T], *, size: int = 0, rejections: bool = False) -> T:
        access = self._writer._access
        with translated(self._writer._secrets, rejections=rejections, retry_after=access.retry_after):
            return access.call(function, size)


def _entity_size(entity: Any) -> int:
    return weight(entity.key) + weight(entity.value) + _OVERHEAD
