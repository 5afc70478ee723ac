"""The float64 value of a scalar in an event file of ours, beside the float32 that TensorBoard's format has for it.

TensorBoard's fast loader skips scalars that are stored as float64 tensors (2.20). So `simple_value` has the float32,
which every reader shows, and the content for the scalars plugin has the exact value, as a protobuf field that
TensorBoard does not know and ignores.
"""

from __future__ import annotations

import struct

_FIELD = struct.Struct("<Bd")
_KEY = 15 << 3 | 1
"""Protobuf's key of field 15, with eight bytes (protobuf.dev/programming-guides/encoding)."""


def with_float64(value: float) -> bytes:
    """Return the content of the plugin's metadata for a value."""
    return _FIELD.pack(_KEY, value)


def float64_in(content: bytes) -> float | None:
    """Return the value in the content of the plugin's metadata; None if another program has written it."""
    if len(content) != _FIELD.size or content[0] != _KEY:
        return None
    value: float = _FIELD.unpack(content)[1]
    return value
