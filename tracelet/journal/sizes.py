"""Estimate the memory that a record holds: the bounds of the queue, of a batch and of the overflow count it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tracelet.records import File, Histogram, PRCurve, Record, Scalar

RECORD_BYTES = 256
"""Assumed bytes of a record's fixed fields, and of a whole scalar: measuring each one would slow `submit`."""
# A float in a tuple: the object and the reference to it.
_FLOAT_BYTES = 32
# An empty text or container.
_ITEM_BYTES = 56


def record_bytes(record: Record) -> int:
    """Return the approximate bytes that a record holds in memory: the same number at every call."""
    match record:
        case Scalar():
            return RECORD_BYTES
        case Histogram(limits=limits, counts=counts):  # a model's histograms arrive by the thousand
            return RECORD_BYTES + _FLOAT_BYTES * (len(limits) + len(counts))
        case PRCurve(recall=recall):
            return RECORD_BYTES + 6 * _FLOAT_BYTES * len(recall)
    return RECORD_BYTES + sum(_value_bytes(getattr(record, field)) for field in record.__struct_fields__)


def _value_bytes(value: Any) -> int:
    match value:
        case str():  # not `getsizeof`: it grows when the text is encoded
            return _ITEM_BYTES + len(value) * (1 if value.isascii() else 4)
        case Mapping():
            items: Any = (part for item in value.items() for part in item)
        case list() | tuple():
            items = value
        case File():
            items = (value.name, value.digest, value.path)
        case _:
            return sys.getsizeof(value)
    return _ITEM_BYTES + sum(8 + _value_bytes(item) for item in items)
