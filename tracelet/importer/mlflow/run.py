"""Convert one run of an MLflow store."""

from __future__ import annotations

import heapq
import json
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from tracelet.backends.mlflow.errors import translated
from tracelet.backends.mlflow.values import NAME_TAG
from tracelet.importer.mlflow.artifacts import Artifacts
from tracelet.importer.mlflow.store import OpenStore
from tracelet.importer.past_run import PastRun, Status
from tracelet.records import Params, Record, Scalar

_RESULTS: Mapping[str, tuple[Status, int | None]] = {
    "FINISHED": ("finished", 0),
    "FAILED": ("failed", 1),
}
_OWN_TAGS = ("mlflow.", "tracelet.")
_GROUP = "group"


class RunReader:
    """Read one run. Its history and files are read when `run.records` is called."""

    def __init__(self, store: OpenStore, native: Any, experiment: str, source: str) -> None:
        self._store, self._native = store, native
        info, tags = native.info, dict(native.data.tags)
        self._names = _names(tags)
        self.run = PastRun("mlflow", info.run_id, f"{source} {info.run_id}", self._records, project=experiment)
        self.run.name = info.run_name or tags.get("mlflow.runName")
        self.run.started, self.run.notes = (info.start_time or 0) / 1000, tags.get("mlflow.note.content")
        self.run.program, self.run.group = tags.get("mlflow.source.name"), tags.get(_GROUP)
        self.run.status, self.run.exit_code = _RESULTS.get(info.status, ("killed", None))
        self.run.ended = info.end_time / 1000 if info.end_time else None
        own = {
            self._name(key): value
            for key, value in sorted(tags.items())
            if not key.startswith(_OWN_TAGS) and key != _GROUP
        }
        self.run.tags = tuple(name if value == "true" else f"{name}={value}" for name, value in own.items())

    def _name(self, key: str) -> str:
        """Return the tag of a key that tracelet changed, or the key."""
        return self._names.get(key, key)

    def _records(self, started: float) -> Iterator[Record]:
        with Artifacts(self._store, self._native, self.run, self._name) as artifacts:
            # Sorted, since the store has no order, and another one would be another record.
            params = {self._name(key): value for key, value in sorted(self._native.data.params.items())}
            params |= {name: value for name, value in artifacts.exact_params().items() if name in params}
            if params:
                yield Params(params, started)
            series = [self._series(key) for key in self._native.data.metrics]
            yield from heapq.merge(*series, key=operator.attrgetter("wall_time"))
            yield from artifacts.records(started)
        inputs, outputs = (getattr(self._native, name, None) for name in ("inputs", "outputs"))
        if getattr(inputs, "dataset_inputs", None):
            self.run.damaged("datasets are not imported")
        if getattr(outputs, "model_outputs", None):
            self.run.damaged("logged models are not imported")

    def _series(self, key: str) -> list[Scalar]:
        with translated():
            points = self._store.client.get_metric_history(self._native.info.run_id, key)
        name = self._name(key)
        return [Scalar(name, float(point.value), int(point.step), point.timestamp / 1000) for point in points]


def _names(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of the keys that tracelet changed (`name_tags`)."""
    names = {}
    for tag, text in tags.items():
        if tag.startswith(NAME_TAG):
            number = 2
            while (more := tags.get(f"{tag}.{number}")) is not None:
                text, number = text + more, number + 1
            try:
                names[tag.removeprefix(NAME_TAG)] = str(json.loads(text))
            except ValueError:  # a later piece
                continue
    return names
