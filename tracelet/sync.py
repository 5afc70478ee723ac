"""Finish past runs, or send them somewhere new. By the same deliveries as a live run; there is no other road.

A run that a process still writes is left to that process; so is one that another sync is at.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from tracelet.backends import backend_class, check_installed, configured, kept_config, pending_upload
from tracelet.backends.base import Backend
from tracelet.errors import RunInUse
from tracelet.guard import Guard
from tracelet.journal.store import Cursor, JournalReader, is_live
from tracelet.orchestrator import Orchestrator
from tracelet.records import RunInfo
from tracelet.redaction import Secrets

_LOOK_EVERY = 0.1
_QUEUE_BYTES = 2**20
_QUEUE_TIMEOUT = 30.0
_END = 60.0
_HAND_OVER = 600.0
# A backend that refuses the first contact does so again a moment later.
_UNOPENED = 12.0

Tell = Callable[[str, int, int], None]
"""Told of a backend's name, the records it has settled, and how many there are."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a sync of one run to one backend came to. `reason` says why something waits; None when nothing does."""

    backend: str
    delivered: int
    """Held by the backend now."""
    new: int
    """Of those, delivered by this sync."""
    waiting: int
    rejected: int
    filtered: int
    reason: str | None = None


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """What a sync of one run came to. `skipped` says why nothing was done."""

    folder: Path
    outcomes: tuple[Outcome, ...] = ()
    skipped: str | None = None

    @property
    def complete(self) -> bool:
        """Nothing waits any more."""
        return self.skipped is None and all(one.reason is None for one in self.outcomes)


def waiting(folder: Path) -> list[str]:
    """The backends that lack something of the run in `folder`, by its journal and the vendors' notes beside it.

    Raises:
        JournalError: there is no readable journal.
    """
    with JournalReader(folder) as reader:
        last, cursors = reader.last(), reader.cursors()
    return [name for name, cursor in cursors.items() if cursor.position < last or pending_upload(name, folder)]


def deliver(
    folder: Path,
    backends: Sequence[str] = (),
    *,
    config: Mapping[str, Mapping[str, Any]] | None = None,
    patience: float = 30.0,
    tell: Tell = lambda name, done, total: None,
    stands_in: bool = False,
) -> Synced:
    """Deliver what waits of the run in `folder`, and hand over what vendors recorded offline.

    Args:
        backends: Names; left out, those that lack something. One that the run has never met gets all of it.
        config: The backends' own keys, by their names, over what the journal kept of them.
        patience: Seconds without progress after which a backend is given up; the rest waits for the next time.
        tell: Told of the progress.
        stands_in: This process does nothing else, and goes by the name of the run's program meanwhile: vendors then
            note the same source as in a live run.

    Raises:
        JournalError: there is no readable journal.
        ConfigurationError, MissingDependency: a backend that nobody knows, cannot be configured, or is not installed.
    """
    if is_live(folder):
        return Synced(folder=folder, skipped="its process is alive, and delivers itself")
    with JournalReader(folder) as reader:
        info, last, facts = reader.info(), reader.last(), reader.facts()
        before = reader.cursors()
    made = [_backend(name, facts, config or {}) for name in (backends or waiting(folder))]
    if not made:
        return Synced(folder=folder)
    secrets = Secrets()
    for backend in made:
        secrets.learn(backend.secrets())
    info = msgspec.structs.replace(info, folder=str(folder.absolute()), resumed=True)
    guard = Guard(secrets.hide)
    try:
        orchestrator = Orchestrator(
            folder, info, guard=guard, queue_bytes=_QUEUE_BYTES, queue_timeout=_QUEUE_TIMEOUT, secrets=secrets
        )
    except RunInUse:
        return Synced(folder=folder, skipped="another process is at it")
    orchestrator.expect({one.name: kept_config(one, secrets) for one in made})
    recorded = [one.name for one in made if one.pending_upload(folder) is not None]
    with _named_as(info.program if stands_in else None):
        reasons = _hand_over(made, folder, info, guard)
        # Also where a recording could not be handed over: in its vendor's offline mode the rest joins it.
        lacking = [
            one
            for one in made
            if before.get(one.name, Cursor()).position < last
            and not (one.name in reasons and one.offline_seq(folder) >= last)
        ]
        try:
            orchestrator.start(lacking, lambda: None)
            for delivery in orchestrator.deliveries.values():
                delivery.ask_confirmed(last)
            _wait(orchestrator, last, patience, tell)
        finally:  # also when Ctrl-C ends the wait: what is settled by now is noted
            orchestrator.stop("finished", 0, _END)
    for name, delivery in orchestrator.deliveries.items():
        if delivery.position < last:
            reasons.setdefault(name, delivery.trouble or "it did not take everything in time")
    with JournalReader(folder) as reader:
        after = reader.cursors()
    outcomes = {one.name: _outcome(one.name, before, after, last, reasons.get(one.name)) for one in made}
    left = [name for name in recorded if name in orchestrator.deliveries and name not in reasons]
    behind = [name for name in left if pending_upload(name, folder)]
    if behind:  # what the vendor's offline recording got just now is handed over as well
        again = deliver(folder, behind, config=config, patience=patience, tell=tell, stands_in=stands_in)
        for one in again.outcomes:
            outcomes[one.backend] = msgspec.structs.replace(one, new=outcomes[one.backend].new)
    return Synced(folder=folder, outcomes=tuple(outcomes.values()))


@contextlib.contextmanager
def _named_as(program: str | None) -> Iterator[None]:
    """Vendors take the source of a run from `sys.argv` and `__main__`. That has no `__file__` here, as in a delivery
    process: where a file stands there, a process that a vendor starts would run it."""
    if not program:
        yield
        return
    argv, main = sys.argv[:], sys.modules["__main__"]
    sys.argv[:], sys.modules["__main__"] = [program], ModuleType("__main__")
    try:
        yield
    finally:
        sys.argv[:], sys.modules["__main__"] = argv, main


def _backend(name: str, facts: Mapping[str, Any], config: Mapping[str, Mapping[str, Any]]) -> Backend:
    cls = backend_class(name)
    check_installed(name)
    return configured(cls, {**facts.get(f"config {name}", {}), **config.get(name, {})})


def _hand_over(backends: Sequence[Backend], folder: Path, info: RunInfo, guard: Guard) -> dict[str, str]:
    """Have the vendors deliver what they recorded offline; the reasons why some could not."""
    reasons = {}
    for backend in backends:
        if backend.pending_upload(folder) is not None:
            error = guard.attempt(backend.upload_offline, info, time.monotonic() + _HAND_OVER)
            if error is not None:
                reasons[backend.name] = guard.hide(getattr(error, "reason", None) or f"{type(error).__name__}: {error}")
    return reasons


def _wait(orchestrator: Orchestrator, last: int, patience: float, tell: Tell) -> None:
    """Until every backend has everything, or those that lack something made no progress for too long."""
    moved = {name: (time.monotonic(), -1) for name in orchestrator.deliveries}
    left = dict(orchestrator.deliveries)
    pause = threading.Event()
    while left:
        for name, delivery in list(left.items()):
            tell(name, delivery.position, last)
            now = time.monotonic()
            if delivery.written_seq > moved[name][1]:
                moved[name] = (now, delivery.written_seq)
            done = delivery.position >= last or (delivery.is_offline and delivery.written_seq >= last)
            limit = patience if delivery.was_open else min(patience, _UNOPENED)
            if done or now - moved[name][0] > limit:
                del left[name]
        if left:
            pause.wait(_LOOK_EVERY)


def _outcome(
    name: str, before: Mapping[str, Cursor], after: Mapping[str, Cursor], last: int, reason: str | None
) -> Outcome:
    earlier, now = before.get(name, Cursor()), after.get(name, Cursor())
    return Outcome(
        backend=name,
        delivered=now.delivered,
        new=max(0, now.delivered - earlier.delivered),
        waiting=last - now.position,
        rejected=now.rejected,
        filtered=now.filtered,
        reason=reason,
    )
