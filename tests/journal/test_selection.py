"""Selecting records of an encoded batch gives the same as decoding all of it."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracelet.journal.selection import Selection
from tracelet.journal.tables import decode
from tracelet.records import Alert, Artifact, Params, Record, Scalar, Summary, Text

TAGS = ["x", "scalar", "loss", "\N{SQUARE WITH UPPER RIGHT DIAGONAL HALF BLACK}scalar", "t" * 31, "t" * 32, "t" * 127]
TAGS += ["t" * 128, "t" * 256, "\N{ARABIC LETTER FEH}" * 80, ""]
LIKE_A_RECORD = [b"\x96\xa6scalar", b"\x00\x00\x00\x00\x00\x00\x96\xa6", b"\x00\x00\x00\x00\x00\x00\x00\x96"]
FLOATS = st.floats() | st.sampled_from([msgspec.msgpack.decode(b"\xcb" + data) for data in LIKE_A_RECORD])
STEPS = st.none() | st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0x73, int.from_bytes(b"6\xa6scalar", "big")])
NAMES = st.sampled_from([*TAGS, *(f"{tag}\N{CJK UNIFIED IDEOGRAPH-5566}" for tag in TAGS[:3])])
SCALARS = st.builds(Scalar, NAMES, FLOATS | st.integers(-5, 5), STEPS, FLOATS, NAMES)
FREE = st.lists(NAMES | FLOATS | STEPS | st.tuples(st.just("scalar"), NAMES, FLOATS, STEPS, FLOATS, NAMES), max_size=8)
OTHERS = (
    st.builds(Text, NAMES, NAMES, STEPS, FLOATS, NAMES)
    | st.builds(Params, st.dictionaries(NAMES, FREE, max_size=2), FLOATS)
    | st.builds(Summary, st.dictionaries(NAMES, FREE, max_size=2), FLOATS)
    | st.builds(Artifact, NAMES, st.just(()), FLOATS, NAMES, st.dictionaries(NAMES, FREE, max_size=2))
    | st.builds(Alert, NAMES, NAMES, NAMES, FLOATS)
)


def told_apart(records):
    """Comparable also with NaN."""
    return [repr(record) for record in records]


@given(st.lists(SCALARS | OTHERS, min_size=1, max_size=20), st.sampled_from(TAGS), st.integers(0, 3))
@example([Params({"a": [("scalar", "x", 1.0, 3, 2.0, "w")]}, 1.0), Scalar("x", 1.0, 1, 1.0)], "x", 0)
@example([Artifact("a", (), 1.0, "scalar", {"b": [("scalar", "x", 1.0, 3, 2.0, "w")]})], "x", 0)
@example([Text("scalar", "x", 3, 1.0)], "x", 0)
@example([Scalar("x", 3, 1, 1.0)], "x", 0)
def test_the_scalars_of_a_tag_are_those_that_decoding_finds(records, tag, skip):
    """Whatever else a batch holds, texts and lists that look like a scalar included."""
    data = msgspec.msgpack.encode(records)
    whole = decode(list[Record], data)
    wanted = [record for record in whole[skip:] if isinstance(record, Scalar) and record.tag == tag]

    count, found = Selection((Scalar,), tag).decode(data, skip)

    assert len(records) == count
    assert told_apart(wanted) == told_apart(found)


@given(st.lists(SCALARS | OTHERS, max_size=20), st.sampled_from([Text, Params, Alert, Scalar]), st.integers(0, 3))
def test_the_records_of_a_kind(records, cls, skip):
    data = msgspec.msgpack.encode(records)
    wanted = [record for record in decode(list[Record], data)[skip:] if isinstance(record, cls)]

    count, found = Selection((cls,)).decode(data, skip)

    assert (len(records), told_apart(wanted)) == (count, told_apart(found))


@pytest.mark.parametrize("length", [1, 15, 16, 65_535, 65_536])
def test_a_batch_of_any_length_is_counted_without_decoding_it(length):
    data = msgspec.msgpack.encode([Scalar("x", math.inf, None, 1.0)] * length)
    assert (length, []) == Selection((Text,)).decode(data)
