"""The checksum of event files: CRC-32C (Castagnoli), masked, by a compiled library.

In Python alone, as TensorBoard has it, a byte costs 100 ns: most of what writing an event costs.
"""

from __future__ import annotations

import google_crc32c

IS_COMPILED: bool = google_crc32c.implementation == "c"

_crc32c = google_crc32c.value


def masked_crc32c(data: bytes) -> int:
    """The checksum of `data` as it stands in a file (tensorflow/core/lib/hash/crc32c.h, `Mask`)."""
    crc: int = _crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
