"""Write one batch as tags, metrics, parameters and files, in requests that a server accepts.

Each point has a fixed time, and each file a fixed path. If a batch is retried after an outage or a kill, existing data
in the store does not change. The last points of a batch come after all else, and in their request is the run tag with
the number of its last record: whatever the store holds of it, it holds everything before.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tracelet import records as r
from tracelet.backends.base import Batch, Written
from tracelet.backends.mlflow import values as v
from tracelet.backends.mlflow.connection import Access
from tracelet.backends.mlflow.errors import converting, translated
from tracelet.backends.mlflow.files import Stage
from tracelet.backends.mlflow.layout import table_file
from tracelet.backends.mlflow.run import Target, run_tags
from tracelet.backends.paths import Paths
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.guard import logger

T = TypeVar("T")
OnRejected = Callable[[Any, RecordRejected], None]

_PARAMS_FILE, _SUMMARY_FILE = "params.json", "summary.json"
_MAX_BYTES, _OVERHEAD, _MAX_PARAM, _MAX_TAG = 900_000, 120, 6000, 4000
_TABLES_TAG, _IMAGES_TAG, _ALERT_TAG = "mlflow.loggedArtifacts", "mlflow.loggedImages", "tracelet.alert"
_MAX_TABLES_TAG = 4500  # the table view lists about as many
_DERIVED_TAGS = ("tracelet.name.", "tracelet.param.", "mlflow.logged")
_CHANGED = (
    "mlflow: a parameter keeps its first value; the new one is in the run tag %r, all values are in the artifact %s"
)


class BatchWriter:
    """Write records while a run is open. Caches no records.

    `held` is the last sequence number up to which the run has every record.
    """

    def __init__(self, target: Target, access: Access, folder: Path) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self.metric, self.param, self.tag = Metric, Param, RunTag
        self.target, self.access, self._folder = target, access, folder
        held = target.tags.get(target.held_tag, "")
        self.held = int(held) if held.isdecimal() else 0
        self.timestamps = v.TimestampDeduplicator()
        self.paths = Paths()
        self.params: dict[str, str] = dict(target.run.data.params)
        self.max_items = {"metrics": 1000, "params": 100, "tags": 100}
        # Ranks that share the run would replace each other's files.
        self.facts_folder = f"tracelet/{target.label}" if target.label else "tracelet"
        self.has_table_files = False
        self._files: dict[str, dict[str, Any]] = {}
        self._has_warned = False

    def write(self, batch: Batch) -> Written | None:
        """Write the batch. The records before a rejected one are written."""
        if not batch:
            return None
        written = 0
        with translated():
            try:
                request = _BatchRequest(self, batch, self._folder)
                request.run()
                written = len(batch)
                return None
            except BackendUnavailable as error:
                written = request.first_unsent()
                return Written(written, error)
            except RecordRejected as error:
                index = request.rejected
                if index is None:  # one with a file: delivery splits the batch to find it
                    raise
                rejected = Written(index, error)
            finally:
                self.timestamps.commit(written)
                shutil.rmtree(self._folder, ignore_errors=True)
        return self.write(Batch(batch[:index], batch.numbers[:index])) or rejected

    def call(self, function: Callable[[], T], *, size: int = 0, rejections: bool = False) -> T:
        with translated(rejections=rejections):
            return self.access.call(function, size)

    def send(self, kind: str, items: Sequence[Any], on_rejected: OnRejected, tags: Sequence[Any] = ()) -> bool:
        """Send items in one request, and `tags` with the last of them. If they are rejected, send halves.

        If both halves are accepted, their size becomes the server's limit. Return False if an item was rejected.
        """
        client, entities = self.target.client, {"tags": list(tags)} | {kind: list(items)}
        try:
            self.call(lambda: client.log_batch(self.target.id, synchronous=True, **entities), rejections=True)
            return True
        except RecordRejected as error:
            if len(items) == 1:
                on_rejected(items[0], error)
                return False
        half = len(items) // 2
        accepted = [self.send(kind, items[:half], on_rejected), self.send(kind, items[half:], on_rejected, tags)]
        if all(accepted):
            self.max_items[kind] = min(self.max_items[kind], len(items) - half)
        return all(accepted)

    def chunks(self, kind: str, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """Split items into chunks within the limits of number and bytes."""
        start = total = 0
        for index, item in enumerate(items):
            size = _size(item)
            total += size
            if index > start and (index - start >= self.max_items[kind] or total > _MAX_BYTES):
                yield items[start:index]
                start, total = index, size
        if items:
            yield items[start:]

    def put_tags(self, tags: Mapping[str, str]) -> None:
        """Set run tags, except for derived ones that the run has."""
        known = self.target.tags
        new = {k: text for k, text in tags.items() if known.get(k) != text or not k.startswith(_DERIVED_TAGS)}
        for chunk in self.chunks("tags", [self.tag(name, value) for name, value in new.items()]):
            self.send("tags", chunk, _warn_of_tag)
        known |= new

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Log parameters that MLflow does not have yet. Others, and those that it rejects, become run tags."""
        rejected: set[str] = set()
        texts = {v.key_of(name): v.shortened(value, _MAX_PARAM) for name, value in values.items()}
        new = {key: text for key, text in texts.items() if key not in self.params}
        for chunk in self.chunks("params", [self.param(key, text) for key, text in new.items()]):
            self.send("params", chunk, lambda param, _: rejected.add(param.key))
        self.params |= {key: text for key, text in new.items() if key not in rejected}
        if rejected:  # the program itself, or another process, may have logged them
            self.params |= self.call(lambda: self.target.client.get_run(self.target.id)).data.params
        known = self.target.tags
        changed = [key for key in texts if v.param_tag(key) in known or self.params.get(key) != texts[key]]
        if changed and not self._has_warned:
            self._has_warned = True
            logger.warning(_CHANGED, v.param_tag(changed[0]), f"{self.facts_folder}/{_PARAMS_FILE}")
        self.put_tags({v.param_tag(key): v.shortened(texts[key], _MAX_TAG) for key in changed})

    def update_file(self, path: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Add values to the content of a JSON file in the run, and return it."""
        if path not in self._files:
            self._files[path] = self.call(lambda: _read_json(self.target, path))
        self._files[path] |= values
        return self._files[path]


class _BatchRequest:
    """The state of one `write`. `rejected` is the index of the record that a `RecordRejected` of `run` is about."""

    def __init__(self, writer: BatchWriter, batch: Batch, folder: Path) -> None:
        self._writer, self._batch = writer, batch
        self._stage = Stage(folder, writer.paths)
        self._points: list[tuple[int, Any]] = []
        self._sent = 0
        self._inexact: list[str] = []
        self._params: dict[str, Any] = {}
        self._summary: dict[str, tuple[int, Any, float]] = {}
        self._tags: dict[str, str] = {}
        self._first_file = len(batch)
        self.rejected: int | None = None

    def run(self) -> None:
        """Write the batch, and then the number of its last record."""
        writer, target = self._writer, self._writer.target
        self._sort()
        self._send_tags()
        last: Sequence[Any] = ()
        for chunk in writer.chunks("metrics", [metric for _, metric in self._points]):
            self._send_points(last)
            last = chunk
        self._send_files()
        held = [writer.tag(target.held_tag, str(self._batch.last))]
        has_room = 0 < len(last) < writer.max_items["metrics"]  # otherwise MLflow would send a metric after the tag
        self._send_points(last, held if has_room else ())
        if not has_room:
            writer.send("tags", held, _warn_of_tag)
        writer.held = self._batch.last

    def first_unsent(self) -> int:
        """Return the index of the first record that is not written whole."""
        point = self._points[self._sent][0] if self._sent < len(self._points) else len(self._batch)
        return min(point, self._first_file)

    # Sorting.

    def _sort(self) -> None:
        for index, record in enumerate(self._batch):
            if type(record) is r.Scalar:
                self._add_scalar(index, record)
                continue
            self._first_file, self.rejected = min(self._first_file, index), index
            with converting():
                self._sort_other(index, record)
        self.rejected = None
        if self._summary:
            self._add_summary()
            self._points.sort(key=lambda point: point[0])

    def _sort_other(self, index: int, record: r.Record) -> None:
        match record:
            case r.Params(values=values):
                self._params |= values
                for name in values:
                    self._add_name(v.key_of(name), name)
            case r.Summary(values=values, wall_time=wall_time):
                # Keep only the last value: of two within a millisecond, MLflow would show the larger.
                self._summary |= {name: (index, value, wall_time) for name, value in values.items()}
            case r.Tags(tags=tags):
                self._tags |= run_tags(tags)
            case _:
                if isinstance(record, r.Alert):
                    self._tags[_ALERT_TAG] = v.shortened(f"{record.level}: {record.title}", _MAX_TAG)
                elif not isinstance(record, r.Artifact):
                    self._add_name(v.file_key(record.tag), record.tag)
                self._stage.put(record)
                if self._writer.has_table_files and isinstance(record, r.Table):
                    self._stage.file(*table_file(record))

    def _add_summary(self) -> None:
        for name, (index, value, wall_time) in self._summary.items():
            tag = f"summary/{name}"  # the prefix separates it from a metric of the same name
            key = v.key_of(tag)
            self._add_name(key, tag)
            if isinstance(value, int | float) and not isinstance(value, bool):
                self._add_point(index, key, 0, float(value), wall_time)
            else:
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                self._tags[key] = v.shortened(text, _MAX_TAG)

    def _add_scalar(self, index: int, scalar: r.Scalar) -> None:
        tag, step = scalar.tag, r.shown_step(scalar.step)
        self._add_name(key := v.key_of(tag), tag)
        if not v.is_exact(scalar.value, step, scalar.wall_time):
            self._inexact.append(json.dumps([tag, scalar.value, step, scalar.wall_time]))
            self._first_file = min(self._first_file, index)
        self._add_point(index, key, v.int64(step), scalar.value, scalar.wall_time)

    def _add_name(self, key: str, tag: str) -> None:
        if key != tag and v.NAME_TAG + key not in self._writer.target.tags:
            self._tags |= v.renamed(key, tag)

    def _add_point(self, index: int, key: str, step: int, value: float, wall_time: float) -> None:
        time = self._writer.timestamps.assign(index, key, step, v.milliseconds(wall_time), value)
        self._points.append((index, self._writer.metric(key, value, time, step)))

    # Sending.

    def _send_tags(self) -> None:
        target = self._writer.target
        if self._stage.tables and target.is_shared:  # another rank may have added tables
            target.tags |= self._writer.call(lambda: target.client.get_run(target.id)).data.tags
        tables = json.loads(target.tags.get(_TABLES_TAG, "[]"))
        text = json.dumps(tables + [table for table in self._stage.tables if table not in tables])
        if self._stage.tables and len(text) <= _MAX_TABLES_TAG:
            self._tags[_TABLES_TAG] = text
        if self._stage.images:
            self._tags[_IMAGES_TAG] = "True"
        self._writer.put_tags(self._tags)

    def _send_points(self, metrics: Sequence[Any], tags: Sequence[Any] = ()) -> None:
        if metrics:
            self._writer.send("metrics", metrics, self._reject, tags)
            self._sent += len(metrics)

    def _reject(self, metric: Any, error: RecordRejected) -> None:
        self.rejected = next(index for index, point in self._points if point is metric)
        raise error

    def _send_files(self) -> None:
        writer, stage, target = self._writer, self._stage, self._writer.target
        if self._params:
            writer.log_params(self._params)
        summary = {name: value for name, (_, value, _) in self._summary.items()}
        for name, values in ((_PARAMS_FILE, self._params), (_SUMMARY_FILE, summary)):
            if values:
                path = f"{writer.facts_folder}/{name}"
                stage.json(path, writer.update_file(path, values))
        if self._inexact:
            lines = "".join(f"{line}\n" for line in self._inexact)
            stage.text(f"tracelet/scalar/{v.digest(self._inexact[0])}.jsonl", lines)
        if stage.largest is not None:
            folder = str(stage.folder)
            writer.call(lambda: target.client.log_artifacts(target.id, folder), size=stage.largest, rejections=True)
        self._first_file = len(self._batch)


def _size(entity: Any) -> int:
    """Return the maximum bytes of a metric, parameter or tag in a request."""
    return _OVERHEAD + v.weight(entity.key) + (v.weight(entity.value) if isinstance(entity.value, str) else 0)


def _warn_of_tag(tag: Any, error: RecordRejected) -> None:
    logger.warning("mlflow: the server rejected the run tag %r: %s", tag.key, error.reason)


def _read_json(target: Target, path: str) -> dict[str, Any]:
    """Read an earlier session's JSON file from the run's artifacts; empty if there is none."""
    folder = path.rpartition("/")[0]
    if not any(artifact.path == path for artifact in target.client.list_artifacts(target.id, folder)):
        return {}
    with tempfile.TemporaryDirectory() as temporary:
        file = target.client.download_artifacts(target.id, path, temporary)
        return dict(json.loads(Path(file).read_text(encoding="utf-8")))
