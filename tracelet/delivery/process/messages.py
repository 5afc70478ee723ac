"""Define the messages between a program and its delivery process: MessagePack, one message per packet."""

from __future__ import annotations

from typing import Any

import msgspec

from tracelet.backends.base import Status
from tracelet.journal.status import State
from tracelet.journal.tables import Cursor, Rejection
from tracelet.records import RunInfo


class BackendSpec(msgspec.Struct, frozen=True):
    """Describe a backend: `module:Class`, its config, and its cursor."""

    target: str
    config: dict[str, Any]
    cursor: Cursor


class Begin(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Start the deliveries; the first message. `secrets` must be hidden in all output, and are sent only here."""

    info: RunInfo
    backends: list[BackendSpec]
    start_seq: int
    secrets: list[str]
    program: int
    """The program's process id."""
    argv: list[str]


class Confirm(msgspec.Struct, frozen=True, tag=True):
    """Make backend `name` confirm the records up to `last`."""

    name: str
    last: int


class Finish(msgspec.Struct, frozen=True, tag=True):
    """Deliver the remaining records to backend `name`, and close it, within `seconds`. The run `ended` then."""

    name: str
    status: Status
    exit_code: int
    seconds: float
    ended: float | None


class StatusUpdate(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Report the status of backend `name`. `rejections` are those since the last update."""

    name: str
    state: State
    reason: str | None
    was_open: bool
    written_seq: int
    cursor: Cursor
    rejections: list[Rejection]
    url: str | None
    ended: bool


class LogLine(msgspec.Struct, frozen=True, tag=True):
    """Send a line to the program's log."""

    level: int
    text: str


class Losses(msgspec.Struct, frozen=True, tag=True):
    """Report `count` more losses for a cause."""

    cause: str
    count: int


class NewSecrets(msgspec.Struct, frozen=True, tag=True):
    """Report credentials that a vendor found on its own."""

    secrets: list[str]


encode = msgspec.msgpack.Encoder().encode
decode_begin = msgspec.msgpack.Decoder(Begin).decode
decode_request = msgspec.msgpack.Decoder(Confirm | Finish).decode
decode_update = msgspec.msgpack.Decoder(StatusUpdate | LogLine | Losses | NewSecrets).decode
