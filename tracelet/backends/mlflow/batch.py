"""One batch on its way: what goes as metrics, as parameters, as files; and in which pieces a server takes it.

Everything has a fixed place in the store (a point its time, a file its path), so that a batch that is offered again,
after an outage in its middle or a kill, changes nothing that is there.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tracelet.backends.base import Batch
from tracelet.backends.mlflow.errors import Refused, translated
from tracelet.backends.mlflow.params import LENGTHS, PARAMS_FILE, Parameters
from tracelet.backends.mlflow.requests import Access
from tracelet.backends.mlflow.run import Target, word_tags
from tracelet.backends.mlflow.staging import Stage
from tracelet.backends.mlflow.summary import SUMMARY_FILE, SummaryMetrics, is_number, name_of, tag_text
from tracelet.backends.mlflow.timestamps import TimestampDeduplicator
from tracelet.backends.mlflow.values import (
    clean,
    digest,
    file_key,
    int64,
    is_held,
    key_of,
    milliseconds,
    name_tags,
    param_text,
    weight,
)
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.records import Alert, Params, Record, Scalar, Summary, Tags, shown_step

_logger = logging.getLogger("tracelet")

T = TypeVar("T")

_MOST = {"metrics": 1000, "params": 100, "tags": 100}
_MOST_BYTES = 900_000
_OVERHEAD = 120
_TABLES_TAG, _IMAGES_TAG = "mlflow.loggedArtifacts", "mlflow.loggedImages"
_ALERT_TAG = "tracelet.alert"
_TABLES_MOST = 4500  # older servers end a tag at 5000 characters
_NAMES_KEPT = 100_000


class _Point(msgspec.Struct):
    index: int
    metric: Any
    weight: int


class BatchWriter:
    """Where records go while a run is open. Holds per tag what was told of its name, and no record."""

    def __init__(self, target: Target, access: Access, secrets: Sequence[str]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._metric, self._param, self._tag = Metric, Param, RunTag
        self._target, self._access, self._secrets = target, access, secrets
        self._repeats = TimestampDeduplicator()
        self._most = dict(_MOST)
        self._keys: dict[str, tuple[str, int]] = {}
        tags = target.run.data.tags
        self._told = {name: value for name, value in tags.items() if name.startswith("tracelet.name.")}
        self._tables: list[Any] = json.loads(tags.get(_TABLES_TAG, "[]"))
        self._images = _IMAGES_TAG in tags
        self.params = Parameters(target)
        self.figures = SummaryMetrics(target)

    def send(self, batch: Batch, folder: Path) -> None:
        """All of the batch, or an error that says how far it came."""
        written = 0
        try:
            _Sending(self, Stage(folder)).run(batch)
            written = len(batch)
        except (BackendUnavailable, RecordRejected) as error:
            written = error.written
            raise
        finally:
            self._repeats.settle(written)


class _Sending:
    """What one `send` knows."""

    def __init__(self, outbox: BatchWriter, stage: Stage) -> None:
        self._box, self._stage = outbox, stage
        self._points: list[_Point] = []
        self._inexact: list[str] = []
        self._params: dict[str, Any] = {}
        self._figures: dict[str, tuple[int, Any, float]] = {}
        self._tags: dict[str, str] = {}
        self._filed: int | None = None

    def run(self, batch: Batch) -> None:
        rejected = self._sort(batch)
        self._add_figures()
        try:
            self._send_tags()
            try:
                self._send_points()
            except RecordRejected as error:  # the others are sent all the same
                rejected = error if rejected is None or error.written < rejected.written else rejected
            self._send_params()
            self._keep_figures()
            self._send_files()
        except BackendUnavailable as error:
            error.written = self._first_unsent(len(batch))
            raise
        if rejected is not None:
            raise rejected

    # Sorting.

    def _sort(self, batch: Batch) -> RecordRejected | None:
        """Look at the records up to the first that cannot be sent."""
        for index, record in enumerate(batch):
            if type(record) is Scalar:
                self._add_point(index, record)
                continue
            try:
                self._note_file(index)
                self._sort_other(index, record)
            except (OSError, ValueError, KeyError, TypeError, SyntaxError) as error:
                return RecordRejected(f"mlflow: {error}", written=index)
        return None

    def _sort_other(self, index: int, record: Record) -> None:
        match record:
            case Params(values=values):
                self._params |= values
            case Summary(values=values, wall_time=wall_time):
                # The last of each alone: of two within a millisecond MLflow would show the larger.
                self._figures |= {name: (index, value, wall_time) for name, value in values.items()}
            case Tags(tags=tags):
                self._tags |= word_tags(tags)
            case _:
                if isinstance(record, Alert):
                    self._tags[_ALERT_TAG] = clean(tag_text(f"{record.level}: {record.title}"))
                for tag in self._stage.put(record):
                    self._name(file_key(tag), tag)

    def _add_figures(self) -> None:
        box = self._box
        for name, (index, value, wall_time) in self._figures.items():
            key = key_of(name_of(name))
            self._name(key, name_of(name))
            if not is_number(value):
                self._tags[key] = clean(tag_text(value))
                continue
            time = box._repeats.place(index, key, 0, milliseconds(wall_time), float(value))
            self._points.append(_Point(index, box._metric(key, float(value), time, 0), weight(key) + _OVERHEAD))

    def _note_file(self, index: int) -> None:
        self._filed = index if self._filed is None else self._filed

    def _add_point(self, index: int, scalar: Scalar) -> None:
        key, size = self._box._keys.get(scalar.tag) or self._new_key(scalar.tag)
        step, value = shown_step(scalar.step), scalar.value
        if not is_held(value, step, scalar.wall_time):
            self._inexact.append(json.dumps([scalar.tag, value, step, scalar.wall_time]))
            self._note_file(index)
        step = int64(step)
        time = self._box._repeats.place(index, key, step, milliseconds(scalar.wall_time), value)
        self._points.append(_Point(index, self._box._metric(key, value, time, step), size))

    def _new_key(self, tag: str) -> tuple[str, int]:
        key = key_of(tag)
        self._name(key, tag)
        if len(self._box._keys) >= _NAMES_KEPT:
            self._box._keys.clear()
        self._box._keys[tag] = key, weight(key) + _OVERHEAD
        return self._box._keys[tag]

    def _name(self, key: str, tag: str) -> None:
        if key != tag:
            for name, value in name_tags(key, tag):
                if self._box._told.get(name) != value:
                    self._tags[name] = value

    # Sending.

    def _send_tags(self) -> None:
        box = self._box
        if self._stage.images and not box._images:
            self._tags[_IMAGES_TAG] = "True"
        tables = [*box._tables, *({"path": path, "type": "table"} for path in self._stage.tables)]
        text = json.dumps(tables)
        if len(tables) > len(box._tables) and len(text) <= _TABLES_MOST:
            self._tags[_TABLES_TAG] = text
        for name in self._params:
            self._name(key_of(name), name)
        self._put_tags(self._tags)
        box._told |= {name: value for name, value in self._tags.items() if name.startswith("tracelet.name.")}
        box._images = box._images or self._stage.images
        if _TABLES_TAG in self._tags:
            box._tables = tables

    def _put_tags(self, tags: dict[str, str]) -> None:
        entities = [self._box._tag(name, value) for name, value in tags.items()]
        for piece in self._pieces(entities, "tags", lambda tag: weight(tag.key) + weight(tag.value) + _OVERHEAD):
            self._in_pieces("tags", piece, self._tag_refused)

    def _tag_refused(self, tag: Any, why: str) -> None:
        _logger.warning("mlflow: the run tag %r is refused: %s", tag.key, why)

    def _send_points(self) -> None:
        while self._points:
            piece = self._pieces(self._points, "metrics", lambda point: point.weight)[0]
            self._in_pieces("metrics", piece, self._point_refused)
            del self._points[: len(piece)]

    def _point_refused(self, point: _Point, why: str) -> None:
        self._points = self._points[self._points.index(point) :]
        raise RecordRejected(f"mlflow: {why}", written=point.index)

    def _send_params(self) -> None:
        if not self._params:
            return
        known = self._box.params
        new = known.new(self._params)
        refused = self._log_params(new)
        if refused:
            with self._calls():
                known.look()
            for most in LENGTHS[1:]:
                long = {key: param_text(new[key], most) for key in refused if len(new[key]) > most}
                left = self._log_params({key: text for key, text in long.items() if key not in known.shown})
                known.most = known.most if left or not long else most
        tags = known.changed(self._params)
        self._put_tags(tags)
        self._stage.json(PARAMS_FILE, known.took(self._params, tags))
        self._params = {}

    def _log_params(self, texts: dict[str, str]) -> set[str]:
        """Gives the keys that were refused."""
        refused: set[str] = set()
        entities = [self._box._param(key, text) for key, text in texts.items()]
        for piece in self._pieces(entities, "params", lambda one: weight(one.key) + weight(one.value) + _OVERHEAD):
            self._in_pieces("params", piece, lambda one, why: refused.add(one.key))
        self._box.params.shown |= {key: text for key, text in texts.items() if key not in refused}
        return refused

    def _keep_figures(self) -> None:
        if self._figures:
            with self._calls():
                exact = self._box.figures.took({name: value for name, (_, value, _) in self._figures.items()})
            self._stage.json(SUMMARY_FILE, exact)

    def _send_files(self) -> None:
        if self._inexact:
            name = digest(self._inexact[0])
            self._stage.lines(f"tracelet/scalar/{name}.jsonl", self._inexact)
        if not self._stage.is_empty:
            try:
                with self._calls(size=self._stage.largest, refusals=True):
                    self._box._target.client.log_artifacts(self._box._target.id, str(self._stage.folder))
            except Refused as error:
                raise RecordRejected(f"mlflow: {error}", whole=True) from error
        self._filed = None

    def _first_unsent(self, end: int) -> int:
        return min(self._points[0].index if self._points else end, end if self._filed is None else self._filed)

    def _pieces(self, items: Sequence[T], what: str, size: Callable[[T], int]) -> list[Sequence[T]]:
        """Pieces within the limits of number and bytes."""
        pieces: list[Sequence[T]] = []
        at = begin = total = 0
        for at, item in enumerate(items):
            total += size(item)
            if at - begin >= self._box._most[what] or (total > _MOST_BYTES and at > begin):
                pieces.append(items[begin:at])
                begin, total = at, size(item)
                if what == "metrics":  # one at a time: its limit may shrink on the way
                    return pieces
        return [*pieces, items[begin:]] if items else pieces

    def _in_pieces(self, what: str, items: Sequence[Any], refused: Callable[[Any, str], None]) -> bool:
        """Send; a refused piece goes in halves, and what went in halves only is the server's limit from then on."""
        try:
            self._log(what, items)
            return True
        except Refused as error:
            if len(items) == 1:
                refused(items[0], str(error))
                return False
        half = len(items) // 2
        taken = [self._in_pieces(what, part, refused) for part in (items[:half], items[half:])]
        if all(taken):
            self._box._most[what] = min(self._box._most[what], len(items) - half)
        return all(taken)

    def _log(self, what: str, items: Sequence[Any]) -> None:
        entities = [item.metric for item in items] if what == "metrics" else list(items)
        with self._calls(refusals=True):
            self._box._target.client.log_batch(self._box._target.id, synchronous=True, **{what: entities})

    @contextlib.contextmanager
    def _calls(self, *, size: int = 0, refusals: bool = False) -> Iterator[None]:
        box = self._box
        with translated(box._secrets, refusals=refusals, wait=box._access.wait), box._access.impatient(size):
            yield
