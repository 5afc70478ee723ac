"""Where a point lies in a run. Aim keeps one point for a name, a context and a step: what comes later replaces it."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

from tracelet.backends.aim.values import held_step, place

REPEATS = 8
"""Points of one step beside the first that have a line of their own, `{"repeat": 1}` and so on."""
MORE = "more"
"""The line of all points beyond: its steps count them, its epochs are their steps."""
# Aim finds a point by the hash of its step as a double: from here on two steps can have the same.
_LARGEST_EXACT = 2**53
_NUMBERS = ("float", "int", "number", "float64")
_DTYPES = {"scalar": _NUMBERS, "text": ("aim.text",), "image": ("aim.image",)}
_DTYPES |= {"audio": ("aim.audio",), "histogram": ("aim.distribution",)}

Ask: TypeAlias = Callable[[Callable[[], Any]], Any]
"""Carries out a question to the store, within a deadline where the store is remote."""


class _Line:
    """One sequence of Aim's: a name in one context."""

    __slots__ = ("context", "key")

    def __init__(self, name: str, context: dict[str, Any]) -> None:
        from aim.storage.context import Context

        self.context = context
        self.key = (Context(context).idx, name)


class _Tag:
    """The lines of one tag; `last` is the step of its last point, and which line that went to."""

    __slots__ = ("last", "lines", "more", "name")

    def __init__(self, name: str, context: dict[str, Any]) -> None:
        self.name = name
        self.lines = [_Line(name, context)]
        self.more: _Line | None = None
        self.last: tuple[int | None, int] = (None, 0)

    def line(self, number: int) -> _Line:
        while len(self.lines) <= number:
            self.lines.append(_Line(self.name, {**self.lines[0].context, "repeat": len(self.lines)}))
        return self.lines[number]

    def beyond(self) -> _Line:
        if self.more is None:
            self.more = _Line(self.name, {**self.lines[0].context, "repeat": MORE})
        return self.more


class Series:
    """All points of one run. Its memory grows with the tags, not with the points."""

    def __init__(self, run: Any, ask: Ask) -> None:
        # `run.track` has no argument for the wall time, and is the same otherwise.
        self._track = run._tracker._track
        self._infos = run._tracker.sequence_infos
        self._ask = ask
        self._tags: dict[tuple[str, str, str, str], _Tag] = {}
        self._tails: dict[tuple[int, str], Counter[tuple[int, float, bytes]]] = {}

    def forget(self) -> None:
        """Before points come again that may be there."""
        self._tags.clear()
        self._tails.clear()

    def put(self, value: Any, kind: str, tag: str, writer: str, step: int, wall_time: float, replayed: int) -> None:
        """Add a point.

        `replayed`: a process that died or a connection that broke may have written this point already, with up to
        so many others; it is not written twice.
        """
        step, beyond = held_step(step)
        where = (kind, tag, writer, beyond.get("step", ""))
        found = self._tags.get(where)
        if found is None:
            found = self._tags[where] = self._tag(kind, tag, writer, beyond)
        line = found.lines[0]
        info = self._infos.get(line.key)
        if 0 <= step < _LARGEST_EXACT and (info is None or info.count is None or step >= info.count):
            self._track(value, wall_time, found.name, step, None, context=line.context)
            found.last = (step, 0)
        else:
            self._repeat(found, value, step, wall_time, replayed)

    def _tag(self, kind: str, tag: str, writer: str, beyond: dict[str, Any]) -> _Tag:
        """TensorBoard lets a tag have several kinds, Aim a sequence one: the second is told apart by its context."""
        name, context = place(tag, writer)
        found = _Tag(name, context | beyond)
        info = self._infos.get(found.lines[0].key)
        taken = info is not None and info.dtype is not None and info.dtype not in _DTYPES.get(kind, ())
        if taken or kind not in _DTYPES:
            found = _Tag(name, context | beyond | {"kind": kind})
        return found

    def _repeat(self, tag: _Tag, value: Any, step: int, wall_time: float, replayed: int) -> None:
        """Find a line in which the step is free."""
        last, latest = tag.last
        for number in range(latest + 1 if last == step else 0, REPEATS + 1):
            line = tag.line(number)
            held = self._held(line, step)
            if held is None:
                self._track(value, wall_time, tag.name, step, None, context=line.context)
            if held is None or (replayed and held == _sign(step, wall_time, value)):
                tag.last = (step, number)
                return
        tag.last = (step, REPEATS)
        self._append(tag, value, step, wall_time, replayed)

    def _held(self, line: _Line, step: int) -> tuple[int, float, bytes] | None:
        """What stands at a step of a line; None where it is free."""
        info = self._infos.get(line.key)
        if info is None or info.time_view is None:
            return None
        if 0 <= step < _LARGEST_EXACT and info.count is not None and step >= info.count:
            return None
        key = info.step_hash_fn(step)

        def look() -> tuple[int, float, bytes] | None:
            # Written last: where a kill came before, the point is not there yet.
            last = info.time_view if info.step_view is None else info.step_view
            try:
                there = last[key]
                return _sign(step if info.step_view is None else there, info.time_view[key], info.val_view[key])
            except KeyError:
                return None

        found: tuple[int, float, bytes] | None = self._ask(look)
        return found

    def _append(self, tag: _Tag, value: Any, step: int, wall_time: float, replayed: int) -> None:
        line = tag.beyond()
        if replayed:
            if line.key not in self._tails:
                self._tails[line.key] = self._tail(line, replayed)
            tail, sign = self._tails[line.key], _sign(step, wall_time, value)
            if tail[sign] > 0:
                tail[sign] -= 1
                return
        info = self._infos.get(line.key)
        count = 0 if info is None or info.count is None else info.count
        self._track(value, wall_time, tag.name, count, step, context=line.context)

    def _tail(self, line: _Line, most: int) -> Counter[tuple[int, float, bytes]]:
        """The last points of a line of repetitions."""
        info = self._infos.get(line.key)
        if info is None or info.count is None:
            return Counter()

        def look() -> Counter[tuple[int, float, bytes]]:
            found: Counter[tuple[int, float, bytes]] = Counter()
            for at in range(max(0, info.count - most), info.count):
                key = info.step_hash_fn(at)
                try:
                    found[_sign(info.epoch_view[key], info.time_view[key], info.val_view[key])] += 1
                except KeyError:
                    continue
            return found

        tail: Counter[tuple[int, float, bytes]] = self._ask(look)
        return tail


def _sign(step: int, wall_time: float, value: Any) -> tuple[int, float, bytes]:
    """What makes a point the same as another: NaN equals itself, -0.0 is not 0.0, an object is its bytes."""
    if isinstance(value, (int, float)):
        return step, wall_time, struct.pack("<d", value)
    data = value.storage["data"].load()
    return step, wall_time, data.encode() if isinstance(data, str) else bytes(data)
