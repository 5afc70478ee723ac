"""Parse the data of a record as an event, in bounded memory."""

from __future__ import annotations

import functools
from typing import Any

from tracelet.capture.tensorboard.events import undecodable

# A longer record is checked for its number of messages before parsing: an empty one takes two bytes in a file, and
# hundreds in memory.
_UNCHECKED_BYTES = 1 << 20
MAX_FIELDS = 200_000
# The numbers of the fields event.summary, summary.value, value.tensor, whose fields are counted.
_NESTED = (5, 1, 8)


@functools.cache
def _event_class() -> Any:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event


def parse(data: bytes) -> Any | None:
    """Return the event in `data`, or None if there is none, or one with more than `MAX_FIELDS` fields."""
    try:
        if len(data) > _UNCHECKED_BYTES and _count(data, 0, len(data), 0) > MAX_FIELDS:
            return None
        return _event_class().FromString(data)
    except undecodable():
        return None


def _count(data: bytes, position: int, end: int, depth: int) -> int:
    """Count the fields in a part of a serialized event, until there are too many."""
    count = 0
    while position < end and count <= MAX_FIELDS:
        count += 1
        key, position = _varint(data, position)
        match key & 7:
            case 0:
                _, position = _varint(data, position)
            case 1:
                position += 8
            case 2:
                length, position = _varint(data, position)
                if depth < len(_NESTED) and key >> 3 == _NESTED[depth]:
                    count += _count(data, position, min(position + length, end), depth + 1)
                position += length
            case 5:
                position += 4
            case _:  # not valid in an event
                return count
    return count


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80 or shift > 63:
            return value, position
        shift += 7
