"""What a program and its delivery process tell each other; MessagePack, one message a packet."""

from __future__ import annotations

from typing import Any

import msgspec

from tracelet.backends.base import Status
from tracelet.journal.store import Cursor, Rejection
from tracelet.records import RunInfo


class BackendSpec(msgspec.Struct, frozen=True):
    """A backend to deliver to: `module:Class`, its config, and how far it is."""

    target: str
    config: dict[str, Any]
    cursor: Cursor


class Begin(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The first message. `secrets` are to be kept out of all that is said; they travel no other way."""

    info: RunInfo
    wanted: list[BackendSpec]
    began: int
    secrets: list[str]
    program: int
    """Its process id."""
    argv: list[str]


class Confirm(msgspec.Struct, frozen=True, tag=True):
    """Have backend `name` hold what is in the journal up to `last`."""

    name: str
    last: int


class Finish(msgspec.Struct, frozen=True, tag=True):
    """Deliver what is left to backend `name`, and close it, within `seconds`."""

    name: str
    status: Status
    exit_code: int
    seconds: float


class StatusUpdate(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Where backend `name` stands; `rejections` are those since the last such message."""

    name: str
    state: str
    trouble: str | None
    was_open: bool
    written_seq: int
    cursor: Cursor
    rejections: list[Rejection]
    url: str | None
    ended: bool


class LogLine(msgspec.Struct, frozen=True, tag=True):
    """A line for the program's log."""

    level: int
    text: str


class Losses(msgspec.Struct, frozen=True, tag=True):
    """What went wrong `times` more, by its cause."""

    cause: str
    times: int


class NewSecrets(msgspec.Struct, frozen=True, tag=True):
    """Credentials that a vendor found by itself."""

    secrets: list[str]


encode = msgspec.msgpack.Encoder().encode
decode_begin = msgspec.msgpack.Decoder(Begin).decode
decode_order = msgspec.msgpack.Decoder(Confirm | Finish).decode
decode_news = msgspec.msgpack.Decoder(StatusUpdate | LogLine | Losses | NewSecrets).decode
