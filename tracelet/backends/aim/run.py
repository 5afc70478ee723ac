"""One open run of Aim: records into it, and a note in it of how far one journal is."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from tracelet.backends.aim import objects
from tracelet.backends.aim.alerts import Logs
from tracelet.backends.aim.file_store import FileStore
from tracelet.backends.aim.series import Ask, Series
from tracelet.backends.aim.values import flat, nested, plain
from tracelet.records import (
    Alert,
    Artifact,
    Audio,
    Histogram,
    Image,
    Params,
    PRCurve,
    Record,
    Scalar,
    Summary,
    Tags,
    Text,
    Video,
    kind,
    shown_step,
)

PARAMS, SUMMARY = "hparams", "summary"
ABOUT = "tracelet"


class OpenRun:
    """A run that takes records. `journal` names the journal that they come from: several may write to one run.

    A batch is announced in the run before its first record and noted as done after its last. What was announced and
    not done when a process died, or a connection broke, is looked for in the store before it is written again.
    """

    def __init__(self, run: Any, journal: str, uri: str | None, ask: Ask) -> None:
        self.native = run
        self._ask = ask
        self._series = Series(run, ask)
        self._shelf = FileStore(run, uri, ask)
        self._logs = Logs(run, ask)
        self._marks = run.meta_run_tree.subtree(("tracelet", "journals", journal))
        self.done: int = ask(lambda: self._marks.get("done", 0))
        self._begun: int = ask(lambda: self._marks.get("begun", 0))

    @property
    def is_closed(self) -> bool:
        """Whether the program called `close` on it."""
        return self.native._resources is None

    def begin(self, last: int) -> None:
        if last > self._begun:
            self._marks["begun"] = last

    def end(self, last: int) -> None:
        self._marks["done"] = self.done = last

    def doubt(self, last: int) -> None:
        """Whether the records up to `last` arrived is not known."""
        self._begun = max(self._begun, last)
        self._series.forget()

    def put(self, record: Record, number: int) -> None:
        """Add the record with this sequence number."""
        replayed = max(0, self._begun - self.done) if number <= self._begun else 0
        match record:
            case Scalar(tag, value, step, wall_time, writer):
                # float() even so: an int makes a series of another type.
                self._series.put(float(value), "scalar", tag, writer, shown_step(step), wall_time, replayed)
            case Params(values):
                self._merge(PARAMS, values)
            case Summary(values):
                self._merge(SUMMARY, values)
            case Tags(tags):
                self.add_tags(tags)
            case Alert():
                self._logs.put(record, replayed)
            case Artifact():
                self._shelf.put_artifact(record)
            case _:
                self._put_object(record, replayed)

    def _put_object(self, record: Any, replayed: int) -> None:
        made = self._object(record)
        if made is None:
            kept, facts = self._shelf.keep(record)
            made = objects.pointer(record, facts, kept)
        step = shown_step(record.step)
        self._series.put(made, kind(record), record.tag, record.writer, step, record.wall_time, replayed)

    def _object(self, record: Any) -> Any | None:
        """Aim's own object for a record; None where it has none."""
        match record:
            case Text():
                return objects.words(record.text)
            case Image() | Video():
                return objects.image(record)
            case Histogram():
                return objects.distribution(record)
            case Audio():
                return objects.sound(record)
            case PRCurve():
                return objects.curve(record)
        return None

    def _merge(self, name: str, values: Mapping[str, Any]) -> None:
        """Merge into `run[name]`; the later wins, also over what the program set there itself."""
        held = self._ask(lambda: self.native.get(name, {}))
        self.native[name] = nested({**(flat(held) if isinstance(held, Mapping) else {}), **values})

    def add_tags(self, tags: Iterable[str]) -> None:
        """Those that the run does not have."""
        held = set(self._ask(lambda: self.native.tags))
        for tag in dict.fromkeys(map(plain, tags)):
            if tag not in held:
                self._ask(functools.partial(self.native.add_tag, tag))

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Set `run["tracelet"]`: who this run is, and how it ended, which Aim has no field for."""
        self.native[ABOUT] = {name: value for name, value in facts.items() if value is not None}
