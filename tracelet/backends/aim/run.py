"""Write the records of one journal to an open Aim run, and record the progress in that run."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from tracelet import records as r
from tracelet.backends.aim import objects
from tracelet.backends.aim.alerts import AlertLog
from tracelet.backends.aim.file_store import FileStore
from tracelet.backends.aim.series import Query, Sequences
from tracelet.backends.aim.values import flat, nested, to_plain

PARAMS, SUMMARY = "hparams", "summary"
ABOUT = "tracelet"


class OpenRun:
    """Writes records to a run. `journal` identifies their journal, since several journals may write to one run.

    Each batch is marked in the run before its first record and after its last. After a crash or a lost connection, the
    records between the two marks are looked up in the store before they are written again.
    """

    def __init__(self, run: Any, journal: str, uri: str | None, query: Query) -> None:
        self.native = run
        self._query = query
        self._sequences = Sequences(run, query)
        self._files = FileStore(run, uri, query)
        self._alerts = AlertLog(run, query)
        self._marks = run.meta_run_tree.subtree(("tracelet", "journals", journal))
        self.done: int = query(lambda: self._marks.get("done", 0))
        self._begun: int = query(lambda: self._marks.get("begun", 0))

    @property
    def is_closed(self) -> bool:
        """Return whether the program closed the run."""
        return self.native._resources is None

    def begin(self, last: int) -> None:
        """Mark the start of a batch that ends with sequence number `last`."""
        if last > self._begun:
            self._marks["begun"] = last

    def end(self, last: int) -> None:
        """Mark the batch as complete."""
        self._marks["done"] = self.done = last

    def mark_uncertain(self, last: int) -> None:
        """Look up the records up to `last` before writing them again: it is unknown whether they arrived."""
        self._begun = max(self._begun, last)
        self._sequences.clear_cache()

    def put(self, record: r.Record, number: int) -> None:
        """Add the record with this sequence number."""
        replayed = max(0, self._begun - self.done) if number <= self._begun else 0
        match record:
            case r.Scalar(tag, value, step, wall_time, writer):
                # float(): Aim would create a sequence of another type for an int.
                self._sequences.put(float(value), "scalar", tag, writer, r.shown_step(step), wall_time, replayed)
            case r.Params(values):
                self._merge(PARAMS, values)
            case r.Summary(values):
                self._merge(SUMMARY, values)
            case r.Tags(tags):
                self.add_tags(tags)
            case r.Alert():
                self._alerts.put(record, replayed > 0)
            case r.Artifact():
                self._files.put_artifact(record)
            case _:
                self._put_object(record, replayed)

    def _put_object(self, record: Any, replayed: int) -> None:
        value = self._aim_object(record)
        if value is None:
            paths, facts = self._files.put_files(record)
            value = objects.to_reference(record, facts, paths)
        step = r.shown_step(record.step)
        self._sequences.put(value, r.kind(record), record.tag, record.writer, step, record.wall_time, replayed)

    def _aim_object(self, record: Any) -> Any | None:
        """Return Aim's object for a record; None if Aim has no such object."""
        match record:
            case r.Text():
                return objects.to_text(record.text)
            case r.Image() | r.Video():
                return objects.to_image(record)
            case r.Histogram():
                return objects.to_distribution(record)
            case r.Audio():
                return objects.to_audio(record)
            case r.PRCurve():
                return objects.to_curve(record)
        return None

    def _merge(self, name: str, values: Mapping[str, Any]) -> None:
        """Merge values into `run[name]`. A later value replaces an earlier one, also one set by the program."""
        current = self._query(lambda: self.native.get(name, {}))
        self.native[name] = nested({**(flat(current) if isinstance(current, Mapping) else {}), **values})

    def add_tags(self, tags: Iterable[str]) -> None:
        """Add the tags that the run does not have yet."""
        current = set(self._query(lambda: self.native.tags))
        for tag in dict.fromkeys(map(to_plain, tags)):
            if tag not in current:
                self._query(functools.partial(self.native.add_tag, tag))

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Set `run["tracelet"]`: the run's id and result, for which Aim has no fields."""
        self.native[ABOUT] = {name: value for name, value in facts.items() if value is not None}
