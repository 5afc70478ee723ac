"""Read the intact records of a `.wandb` file, also behind a damaged part of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tracelet.backends.wandb.transaction_log import BLOCK, FILE_HEADER, FIRST, FRAGMENT_HEADER, FULL, LAST

_MAGIC = b":W&B"


def records(path: Path, damaged: Callable[[str], None]) -> Iterator[Any]:
    """Yield the records of a file in order.

    A fragment with a wrong checksum ends its block, as in LevelDB: the lengths in it cannot be trusted. Its record is
    lost, and reading resumes at the next block.

    Raises:
        OSError: the file cannot be read.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    for start, payload in _payloads(path, damaged):
        record = Record()
        try:
            record.ParseFromString(payload)
        except DecodeError:
            damaged(f"{path.name}, byte {start}: not a record")
        else:
            yield record


def _payloads(path: Path, damaged: Callable[[str], None]) -> Iterator[tuple[int, bytes]]:
    with open(path, "rb") as file:
        if file.read(FILE_HEADER)[: len(_MAGIC)] != _MAGIC:
            damaged(f"{path.name}, byte 0: not the header of a wandb file")
        file.seek(0)
        base, start, parts = 0, 0, list[bytes]()
        while block := file.read(BLOCK):
            offset, is_intact = (FILE_HEADER if base == 0 else 0), True
            while offset + FRAGMENT_HEADER.size <= len(block):
                checksum, length, kind = FRAGMENT_HEADER.unpack_from(block, offset)
                data = block[offset + FRAGMENT_HEADER.size : offset + FRAGMENT_HEADER.size + length]
                if len(data) < length and len(block) < BLOCK:
                    break
                if zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
                    damaged(f"{path.name}, byte {base + offset}: a damaged record; skipped the rest of its block")
                    is_intact, parts = False, []
                    break
                if kind in (FULL, FIRST):
                    start, parts = base + offset, []
                if kind in (FULL, FIRST) or parts:  # else it continues a damaged record
                    parts.append(data)
                offset += FRAGMENT_HEADER.size + length
                if kind in (FULL, LAST):
                    if parts:
                        yield start, b"".join(parts)
                    parts = []
            if len(block) < BLOCK and offset < len(block) and is_intact:
                start, parts = (start if parts else base + offset), [*parts, b""]
            base += len(block)
        if parts:
            damaged(f"{path.name}, byte {start}: the last record is cut off")
