"""Shared by the deliveries of past runs: how a run ended, the name of its program, and a wait for progress."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tracelet.backends.base import Status
from tracelet.delivery.status import DeliveryHandle
from tracelet.errors import JournalError
from tracelet.journal.store import JournalReader

# Seconds between two progress checks.
_POLL_EVERY = 0.1
# Seconds for a backend to connect: one that fails at first usually keeps failing.
_CONNECT_TIMEOUT = 12.0

OnProgress = Callable[[str, int, int], None]
"""Called with a backend's name, its number of processed records, and the total."""


class RecordedEnd(NamedTuple):
    """How a run ended, from its journal. `time` is in seconds since the epoch."""

    status: Status
    exit_code: int
    time: float


def recorded_end(folder: Path, now: float) -> RecordedEnd:
    """Return the end of a run that no process writes. If it is unknown, the run was killed: at its last sign of life,
    or else `now`."""
    facts: dict[str, Any] = {}
    ended: float | None = None
    with contextlib.suppress(JournalError), JournalReader(folder) as reader:  # it may have been deleted
        facts, ended = reader.facts(), reader.ended()
    ended = now if ended is None else ended
    match facts.get("status"):
        case "finished" | "failed" as status:
            return RecordedEnd(status, facts.get("exit_code", 0), ended)
        case "killed":
            return RecordedEnd("killed", facts.get("exit_code", 1), ended)
        case _:  # an earlier exit code is that of a process before the killed one
            return RecordedEnd("killed", 1, ended)


@contextlib.contextmanager
def named_as(program: str | None) -> Iterator[None]:
    """Set `sys.argv` and `__main__`, from which vendors take the source of a run.

    `__main__` has no `__file__`, as in a delivery process: a process that a vendor starts would run that file.
    """
    if not program:
        yield
        return
    argv, main = sys.argv[:], sys.modules["__main__"]
    sys.argv[:], sys.modules["__main__"] = [program], ModuleType("__main__")
    try:
        yield
    finally:
        sys.argv[:], sys.modules["__main__"] = argv, main


def wait(deliveries: Mapping[str, DeliveryHandle], last: int, patience: float, tell: OnProgress) -> None:
    """Wait until each backend has all records up to `last`, or makes no progress for `patience` seconds."""
    last_progress = {name: (time.monotonic(), -1) for name in deliveries}
    remaining = dict(deliveries)
    pause = threading.Event()
    while remaining:
        for name, delivery in list(remaining.items()):
            tell(name, delivery.position, last)
            now = time.monotonic()
            if delivery.written_seq > last_progress[name][1]:
                last_progress[name] = (now, delivery.written_seq)
            done = delivery.position >= last or (delivery.is_offline and delivery.written_seq >= last)
            gave_up = delivery.reason is not None and not delivery.was_open
            timeout = min(patience, _CONNECT_TIMEOUT) if gave_up else patience
            if done or now - last_progress[name][0] > timeout:
                del remaining[name]
        if remaining:
            pause.wait(_POLL_EVERY)
