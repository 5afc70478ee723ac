"""Keep records in a list: for tests, for inspecting a program, and as the smallest example of a backend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from tracelet.backends.base import Backend, Batch, Status
from tracelet.backends.capabilities import NativeRun
from tracelet.errors import RecordRejected
from tracelet.records import KINDS, Payload, Record, RunInfo

R = TypeVar("R", bound=Record)


class MemoryBackend(Backend, NativeRun):
    """Keep all records in memory, in order. `run` is set by `open`, `status` and `exit_code` by `close`."""

    name = "memory"
    accepts: ClassVar[Mapping[type[Record], str]] = dict.fromkeys(KINDS, "`native.records`, a list in memory")

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.records: list[Record] = []
        self.run: RunInfo | None = None
        self.status: Status | None = None
        self.exit_code: int | None = None

    def open(self, run: RunInfo) -> None:
        self.run = run

    def write(self, batch: Batch) -> None:
        self.records.extend(batch)

    def close(self, status: Status, exit_code: int) -> None:
        self.status, self.exit_code = status, exit_code

    def of(self, kind: type[R]) -> list[R]:
        """Return the records of one kind, in order."""
        return [record for record in self.records if isinstance(record, kind)]

    def data(self, payload: Payload) -> bytes:
        """Return the bytes of a record's payload.

        Raises:
            RecordRejected: the file is missing.
        """
        if isinstance(payload, bytes):
            return payload
        try:
            return Path(payload.path).read_bytes()
        except OSError as error:
            raise RecordRejected(f"memory: {error}") from error

    @property
    def native(self) -> MemoryBackend:
        return self
