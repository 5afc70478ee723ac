"""Decode only some records of a batch: those of some kinds, or of one tag.

Most batches of a long run hold no record of a rare kind, and one of a hundred tags fills a hundredth of each batch.
Both are found by their bytes, which costs a tenth of decoding everything.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec

from tracelet.journal.tables import decode
from tracelet.records import KINDS, Artifact, Params, Record, Scalar, Summary, kind

_encode = msgspec.msgpack.Encoder().encode

# The value, the step and the wall time of a scalar, and the length of its writer's name, which is the rest.
_NUMBERS = re.compile(
    rb"\xcb.{8}(?:[\xc0\x00-\x7f\xe0-\xff]|[\xcc\xd0].|[\xcd\xd1].{2}|[\xce\xd2].{4}|[\xcf\xd3].{8})"
    rb"\xcb.{8}(?:([\xa0-\xbf])|\xd9(.))",
    re.DOTALL,
)
_SIX_FIELDS = 0x96
_MAX_TAG = 127
_FREE_FORM = tuple(_encode(kind(cls)) for cls in (Params, Summary, Artifact))
"""The kinds whose values can be any list, also one with the bytes of a scalar."""


class Selection:
    """Select the records of some kinds; if `tag` is given, only those with this tag."""

    def __init__(self, kinds: Collection[type[Any]] = KINDS, tag: str | None = None) -> None:
        self._kinds, self._tag = frozenset(kinds), tag
        self._has_all_kinds = len(self._kinds) == len(KINDS)
        self._kind_marks = () if self._has_all_kinds else tuple(_encode(kind(cls)) for cls in kinds)
        self._tag_mark = b"" if tag is None else _encode(tag)
        self._scalar_mark = None
        if self._kinds == {Scalar} and tag is not None and len(tag.encode()) <= _MAX_TAG:
            self._scalar_mark = _encode(kind(Scalar)) + self._tag_mark

    def decode(self, data: bytes, skip: int = 0) -> tuple[int, list[Record]]:
        """Return the number of all records in an encoded batch, and the selected ones without the first `skip`.

        Raises:
            DecodeError: the batch is damaged.
        """
        if self._tag_mark not in data or (self._kind_marks and not any(mark in data for mark in self._kind_marks)):
            return _length(data), []
        if self._scalar_mark is not None and not skip:
            found = _cut(data, self._scalar_mark)
            if found is not None:
                return _length(data), found
        records = decode(list[Record], data)
        count, kinds, tag = len(records), self._kinds, self._tag
        records = records[skip:] if skip else records
        if not self._has_all_kinds:
            records = [record for record in records if record.__class__ in kinds]
        if tag is not None:
            records = [record for record in records if getattr(record, "tag", None) == tag]
        return count, records


def _length(data: bytes) -> int:
    """Return the length of an encoded list."""
    first = data[0]
    if first & 0xF0 == 0x90:
        return first & 0x0F
    if first in (0xDC, 0xDD):
        return int.from_bytes(data[1 : 3 if first == 0xDC else 5], "big")
    raise msgspec.DecodeError("a batch is not a list of records")


def _cut(data: bytes, mark: bytes) -> list[Record] | None:
    """Return the scalars that begin with `mark`: their kind and tag. None if these bytes may be something else.

    A text cannot contain them: the byte after "scalar", the length of the tag, would be no UTF-8 there, or would need a
    byte from 128 on after it, which `_MAX_TAG` excludes. No other kind of record has two texts before a float, an
    integer and a float, except in values of any form.
    """
    if any(name in data for name in _FREE_FORM):
        return None
    pieces = []
    start = data.find(mark)
    while start > 0:
        numbers = _NUMBERS.match(data, start + len(mark))
        if numbers is None or data[start - 1] != _SIX_FIELDS:  # of another version, or an integer as a value
            return None
        short, long = numbers.groups()
        end = numbers.end() + (short[0] & 0x1F if short else long[0])
        pieces.append(data[start - 1 : end])
        start = data.find(mark, end)
    header = b"\xdd" + len(pieces).to_bytes(4, "big")
    records: list[Record] = decode(list[Record], header + b"".join(pieces))
    return records
