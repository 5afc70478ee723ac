"""Write points to the sequences of a run, without replacing earlier points.

Aim stores one point per name, context and step. A second point at the same step would replace the first.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

from tracelet.backends.aim.values import name_and_context, split_step

REPEATS = 8
"""Number of repeated points at one step that get their own sequence, with the context `{"repeat": 1}` and so on."""
MORE = "more"
"""The context of the sequence for all further points. Its steps count them, and its epochs are their steps."""
# Aim finds a point by the hash of its step as a double. Above this limit, two steps can have the same hash.
_LARGEST_EXACT = 2**53
_NUMBERS = ("float", "int", "number", "float64")
_DTYPES = {"scalar": _NUMBERS, "text": ("aim.text",), "image": ("aim.image",)}
_DTYPES |= {"audio": ("aim.audio",), "histogram": ("aim.distribution",)}

Query: TypeAlias = Callable[[Callable[[], Any]], Any]
"""Runs a query on the store, with a deadline if the store is remote."""


class _Sequence:
    """One Aim sequence: a name in one context."""

    __slots__ = ("context", "key")

    def __init__(self, name: str, context: dict[str, Any]) -> None:
        from aim.storage.context import Context

        self.context = context
        self.key = (Context(context).idx, name)


class _Tag:
    """The sequences of one tag. `last` is the step of its latest point, and the number of that point's sequence."""

    __slots__ = ("last", "more", "name", "sequences")

    def __init__(self, name: str, context: dict[str, Any]) -> None:
        self.name = name
        self.sequences = [_Sequence(name, context)]
        self.more: _Sequence | None = None
        self.last: tuple[int | None, int] = (None, 0)

    def sequence(self, number: int) -> _Sequence:
        while len(self.sequences) <= number:
            context = {**self.sequences[0].context, "repeat": len(self.sequences)}
            self.sequences.append(_Sequence(self.name, context))
        return self.sequences[number]

    def overflow(self) -> _Sequence:
        if self.more is None:
            self.more = _Sequence(self.name, {**self.sequences[0].context, "repeat": MORE})
        return self.more


class Sequences:
    """All points of one run. Memory grows with the number of tags, not with the number of points."""

    def __init__(self, run: Any, query: Query) -> None:
        # `run.track` has no argument for the wall time, and is otherwise the same.
        self._track = run._tracker._track
        self._infos = run._tracker.sequence_infos
        self._query = query
        self._tags: dict[tuple[str, str, str, str], _Tag] = {}
        self._tails: dict[tuple[int, str], Counter[tuple[int, float, bytes]]] = {}

    def clear_cache(self) -> None:
        """Call this before points are written again that the store may already have."""
        self._tags.clear()
        self._tails.clear()

    def put(self, value: Any, kind: str, tag: str, writer: str, step: int, wall_time: float, replayed: int) -> None:
        """Add a point.

        If `replayed` is not 0, a process that crashed, or a lost connection, may have written this point already, with
        up to that many others. A point that the store has is not written again.
        """
        step, step_context = split_step(step)
        key = (kind, tag, writer, step_context.get("step", ""))
        entry = self._tags.get(key)
        if entry is None:
            entry = self._tags[key] = self._create_tag(kind, tag, writer, step_context)
        sequence = entry.sequences[0]
        info = self._infos.get(sequence.key)
        if 0 <= step < _LARGEST_EXACT and (info is None or info.count is None or step >= info.count):
            self._track(value, wall_time, entry.name, step, None, context=sequence.context)
            entry.last = (step, 0)
        else:
            self._put_repeated(entry, value, step, wall_time, replayed)

    def _create_tag(self, kind: str, tag: str, writer: str, step_context: dict[str, Any]) -> _Tag:
        """Return a new entry. If the tag has points of another kind, the context contains the kind."""
        name, context = name_and_context(tag, writer)
        entry = _Tag(name, context | step_context)
        info = self._infos.get(entry.sequences[0].key)
        is_taken = info is not None and info.dtype is not None and info.dtype not in _DTYPES.get(kind, ())
        if is_taken or kind not in _DTYPES:
            entry = _Tag(name, context | step_context | {"kind": kind})
        return entry

    def _put_repeated(self, tag: _Tag, value: Any, step: int, wall_time: float, replayed: int) -> None:
        """Write the point to the first sequence of the tag in which the step is free."""
        last_step, last_number = tag.last
        for number in range(last_number + 1 if last_step == step else 0, REPEATS + 1):
            sequence = tag.sequence(number)
            stored = self._stored(sequence, step)
            if stored is None:
                self._track(value, wall_time, tag.name, step, None, context=sequence.context)
            if stored is None or (replayed and stored == _identity(step, wall_time, value)):
                tag.last = (step, number)
                return
        tag.last = (step, REPEATS)
        self._append(tag, value, step, wall_time, replayed)

    def _stored(self, sequence: _Sequence, step: int) -> tuple[int, float, bytes] | None:
        """Return the point at a step of a sequence; None if the step is free."""
        info = self._infos.get(sequence.key)
        if info is None or info.time_view is None:
            return None
        if 0 <= step < _LARGEST_EXACT and info.count is not None and step >= info.count:
            return None
        key = info.step_hash_fn(step)

        def read() -> tuple[int, float, bytes] | None:
            # Aim writes this view last. If a kill came earlier, the point does not exist yet.
            last_view = info.time_view if info.step_view is None else info.step_view
            try:
                entry = last_view[key]
                stored_step = step if info.step_view is None else entry
                return _identity(stored_step, info.time_view[key], info.val_view[key])
            except KeyError:
                return None

        point: tuple[int, float, bytes] | None = self._query(read)
        return point

    def _append(self, tag: _Tag, value: Any, step: int, wall_time: float, replayed: int) -> None:
        sequence = tag.overflow()
        if replayed:
            if sequence.key not in self._tails:
                self._tails[sequence.key] = self._tail(sequence, replayed)
            tail, identity = self._tails[sequence.key], _identity(step, wall_time, value)
            if tail[identity] > 0:
                tail[identity] -= 1
                return
        info = self._infos.get(sequence.key)
        count = 0 if info is None or info.count is None else info.count
        self._track(value, wall_time, tag.name, count, step, context=sequence.context)

    def _tail(self, sequence: _Sequence, most: int) -> Counter[tuple[int, float, bytes]]:
        """Return the last points of an overflow sequence, at most `most`."""
        info = self._infos.get(sequence.key)
        if info is None or info.count is None:
            return Counter()

        def read() -> Counter[tuple[int, float, bytes]]:
            points: Counter[tuple[int, float, bytes]] = Counter()
            for index in range(max(0, info.count - most), info.count):
                key = info.step_hash_fn(index)
                try:
                    points[_identity(info.epoch_view[key], info.time_view[key], info.val_view[key])] += 1
                except KeyError:
                    continue
            return points

        tail: Counter[tuple[int, float, bytes]] = self._query(read)
        return tail


def _identity(step: int, wall_time: float, value: Any) -> tuple[int, float, bytes]:
    """Return the identity of a point: NaN equals NaN, -0.0 differs from 0.0, and an object is compared by its bytes."""
    if isinstance(value, (int, float)):
        return step, wall_time, struct.pack("<d", value)
    data = value.storage["data"].load()
    return step, wall_time, data.encode() if isinstance(data, str) else bytes(data)
