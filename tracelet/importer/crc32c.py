"""CRC-32C (Castagnoli) as event files have it. The standard library knows only the other polynomial.

In Python alone a byte costs 100 ns, ten times what reading the event costs. So many pieces go side by side through
numpy, two bytes a step, and a long piece is cut into lanes that go side by side.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import Any

_POLYNOMIAL = 0x82F63B78
_ALL = 0xFFFFFFFF
_LANE = 128
# From here on a piece is better cut into lanes than taken beside others.
_LONG = 8192
# Fewer bytes than this are not worth numpy's calls.
_FEW = 512


def masked(data: bytes) -> int:
    """The checksum of `data` as it stands in a file (tensorflow/core/lib/hash/crc32c.h, `Mask`)."""
    return _mask(_one(data))


def masked_each(pieces: Sequence[bytes]) -> list[int]:
    """`masked` of each piece."""
    found = [0] * len(pieces)
    classes: dict[int, list[int]] = {}
    for place, piece in enumerate(pieces):
        size = len(piece)
        if 4 <= size < _LONG:
            classes.setdefault((size - 1).bit_length(), []).append(place)
        else:
            found[place] = masked(piece)
    for places in classes.values():
        group = [pieces[place] for place in places]
        few = sum(map(len, group)) < _FEW
        for place, crc in zip(places, map(_one, group) if few else _beside(group), strict=True):
            found[place] = _mask(crc)
    return found


def _mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & _ALL


def _one(data: bytes) -> int:
    lanes = len(data) // _LANE if len(data) >= _LONG else 0
    state, rest = (_through_lanes(data, lanes), data[lanes * _LANE :]) if lanes else (_ALL, data)
    single, double = _tables()
    for pair in struct.unpack_from(f"<{len(rest) // 2}H", rest):
        state = double[(state ^ pair) & 0xFFFF] ^ state >> 16
    if len(rest) % 2:
        state = single[(state ^ rest[-1]) & 0xFF] ^ state >> 8
    return state ^ _ALL


def _beside(pieces: Sequence[bytes]) -> list[int]:
    """Pieces of at least four bytes, filled up with zeros before them: those leave a state of 0 as it is."""
    import numpy as np

    width = max(map(len, pieces)) + 1 & ~1
    table = np.frombuffer(bytearray(b"".join(piece.rjust(width, b"\0") for piece in pieces)), np.uint8)
    table = table.reshape(len(pieces), width)
    # To begin with all ones is to begin with zeros and to have the first four bytes turned over.
    starts = np.array([width - len(piece) for piece in pieces])
    table[np.arange(len(pieces))[:, None], starts[:, None] + np.arange(4)] ^= 0xFF
    ends = _advance(np.zeros(len(pieces), np.uint32), np.ascontiguousarray(table.view("<u2").T))
    return [int(end) for end in (ends ^ _ALL).tolist()]


def _through_lanes(data: bytes, lanes: int) -> int:
    import numpy as np

    columns = np.ascontiguousarray(np.frombuffer(data, "<u2", lanes * _LANE // 2).reshape(lanes, -1).T)
    states = np.zeros(lanes, np.uint32)
    states[0] = _ALL
    ends = _advance(states, columns).tolist()
    # A checksum is linear: the state before a lane goes on through it as if the lane were zeros, and is added.
    one, two, three, four = _past_a_lane()
    state = int(ends[0])
    for end in ends[1:]:
        state = end ^ one[state & 255] ^ two[state >> 8 & 255] ^ three[state >> 16 & 255] ^ four[state >> 24]
    return state


def _advance(states: Any, columns: Any) -> Any:
    table = _wide_table()
    for column in columns:
        states = table[(states ^ column) & 0xFFFF] ^ states >> 16
    return states


@functools.cache
def _past_a_lane() -> list[list[int]]:
    """What a lane of zeros makes of each byte of a state."""
    import numpy as np

    zeros = np.zeros((_LANE // 2, 256), np.uint16)
    return [_advance(np.arange(256, dtype=np.uint32) << shift, zeros).tolist() for shift in (0, 8, 16, 24)]


@functools.cache
def _wide_table() -> Any:
    import numpy as np

    return np.array(_tables()[1], np.uint32)


@functools.cache
def _tables() -> tuple[list[int], list[int]]:
    """What one zero byte, and two, make of a state's lowest bits."""
    single = list(range(256))
    for _ in range(8):
        single = [value >> 1 ^ _POLYNOMIAL if value & 1 else value >> 1 for value in single]
    once = [single[pair & 255] ^ pair >> 8 for pair in range(65536)]
    return single, [single[state & 255] ^ state >> 8 for state in once]
