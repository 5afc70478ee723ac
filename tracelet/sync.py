"""Deliver past runs to their backends or to new ones, with the same delivery code as a live run.

Skip a run that is still active, or that another sync is delivering.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tracelet.backends import (
    WITHHELD,
    addresses,
    backend_class,
    check_installed,
    configured,
    filters,
    journal_config,
    pending_upload,
    persistent_keys,
    secrets_of,
)
from tracelet.backends.base import Backend
from tracelet.backends.capabilities import OfflineRecording
from tracelet.delivery.past import OnProgress, named_as, wait
from tracelet.errors import ConfigurationError, RunInUse, UntrustedServer
from tracelet.guard import Guard
from tracelet.journal.status import BackendStatus
from tracelet.journal.store import JournalReader, is_live
from tracelet.journal.tables import Cursor
from tracelet.orchestrator import Orchestrator
from tracelet.records import RunInfo
from tracelet.redaction import Secrets
from tracelet.runs.folders import rank_folders
from tracelet.runs.summary import check_journal, stored_status

# Bytes and seconds; a sync submits no records, so the queue stays small.
_QUEUE_BYTES = 2**20
_QUEUE_TIMEOUT = 30.0
# Seconds for backends to close: with pending records, with a run that rank 0 has not created, and with all records: csv
# sorts its table then.
_STOP_TIMEOUT, _AWAITING_TIMEOUT = 60.0, 2.0
_CLOSE_TIMEOUT = 300.0
# Seconds for a vendor to upload its offline recording.
_UPLOAD_TIMEOUT = 600.0


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """Report the sync of one run. `skipped` is the reason if the run was skipped."""

    folder: Path
    backends: tuple[BackendStatus, ...] = ()
    """The backends that lacked something, and those whose offline recording is not uploaded."""
    new: dict[str, int] = {}
    """The records that this sync delivered, by backend."""
    skipped: str | None = None
    ranks: tuple[Synced, ...] = ()
    """The same for the other ranks that log to the run."""

    @property
    def complete(self) -> bool:
        """True if no records are pending."""
        complete = self.skipped is None and all(backend.reason is None for backend in self.backends)
        return complete and all(rank.complete or rank.skipped is not None for rank in self.ranks)


def waiting(folder: Path) -> list[str]:
    """Return the backends that lack records or the end of the run in `folder`, or have an offline recording.

    Raises:
        JournalError: there is no readable journal.
    """
    names: dict[str, None] = {}
    for part in (folder, *rank_folders(folder)):
        names |= dict.fromkeys(_waiting(part))
    return list(names)


def _waiting(folder: Path) -> list[str]:
    with JournalReader(folder) as reader:
        last, cursors, facts = reader.last(), reader.cursors(), reader.facts()
    return [
        name
        for name, cursor in cursors.items()
        if cursor.position < last or facts.get(f"trouble {name}") or pending_upload(name, folder)
    ]


def deliver(
    folder: Path,
    backends: Sequence[str] = (),
    *,
    config: Mapping[str, Mapping[str, Any]] | None = None,
    patience: float = 30.0,
    tell: OnProgress = lambda name, done, total: None,
    stands_in: bool = False,
    trust: bool = False,
    verify: bool = False,
) -> Synced:
    """Deliver the pending records of the run in `folder`, of all its ranks, and upload the vendors' offline recordings.

    Args:
        backends: Names of backends; if omitted, those with pending records. A new backend gets all records.
        config: Keys of each backend, by its name; they override those in the journal.
        patience: Seconds without progress until a backend is abandoned. Its records stay pending.
        tell: Called with the progress.
        stands_in: True if this process does nothing else. It then uses the name of the run's program, so that vendors
            record the same source as in a live run.
        trust: True: deliver also to servers that only the journal names.
        verify: True: open also backends that are up to date. If a store has lost records, they are delivered again.

    Raises:
        JournalError: there is no readable journal, or `tracelet gc` removed it.
        UntrustedServer: the journal names a server that this user has not configured. It would get the credentials.
        ConfigurationError, MissingDependency: a backend is unknown, cannot be configured, or is not installed.
    """
    deliver_one = functools.partial(
        _deliver, config=config or {}, patience=patience, tell=tell, stands_in=stands_in, trust=trust, verify=verify
    )
    folder = Path(folder)  # a str works too
    synced = deliver_one(folder, backends)  # first: rank 0 creates the vendors' runs
    ranks = () if synced.skipped else tuple(deliver_one(rank, backends) for rank in rank_folders(folder))
    return msgspec.structs.replace(synced, ranks=ranks)


def _deliver(
    folder: Path,
    backends: Sequence[str],
    *,
    config: Mapping[str, Mapping[str, Any]],
    patience: float,
    tell: OnProgress,
    stands_in: bool,
    trust: bool,
    verify: bool,
) -> Synced:
    check_journal(folder)
    if is_live(folder):
        return Synced(folder=folder, skipped="the run is still active")
    with JournalReader(folder) as reader:
        info, last, facts = reader.info(), reader.last(), reader.facts()
        before = reader.cursors()
    targets = [_backend(name, folder, facts, config, trust) for name in (backends or _waiting(folder))]
    if not targets:
        recorded = [one for one in _statuses(folder, before, {}).values() if one.pending_upload is not None]
        return Synced(folder=folder, backends=tuple(recorded))
    recorded_offline = [backend.name for backend in targets if pending_upload(backend.name, folder) is not None]
    secrets = Secrets()
    for backend in targets:
        secrets.add(secrets_of(backend))
    info = msgspec.structs.replace(info, folder=str(folder.absolute()), resumed=True, is_past=True)
    guard = Guard(secrets.hide)
    try:
        orchestrator = Orchestrator(
            folder, info, guard=guard, queue_bytes=_QUEUE_BYTES, queue_timeout=_QUEUE_TIMEOUT, secrets=secrets
        )
    except RunInUse:
        return Synced(folder=folder, skipped="another sync is running")
    orchestrator.register({backend.name: journal_config(backend, secrets) for backend in targets})
    with named_as(info.program if stands_in else None):
        reasons = _upload_offline([one for one in targets if one.name in recorded_offline], info, guard)
        # If an upload failed, deliver too: the vendor's offline mode adds the records to its recording.
        incomplete = [
            backend
            for backend in targets
            if (
                before.get(backend.name, Cursor()).position < last
                or facts.get(f"trouble {backend.name}")
                or (verify and backend.name not in recorded_offline)
            )
            and not (
                backend.name in reasons
                and isinstance(backend, OfflineRecording)
                and backend.offline_seq(folder) >= last
            )
        ]
        try:
            orchestrator.start(incomplete, lambda: None)
            for delivery in orchestrator.deliveries.values():
                delivery.request_flush(last)
            wait(orchestrator.deliveries, last, patience, tell)
        finally:  # also when Ctrl-C ends the wait: store the cursors
            delivered = all(delivery.position >= last for delivery in orchestrator.deliveries.values())
            # They wait for a run that rank 0 has not created.
            awaits = all(one.state == "connecting" and one.reason for one in orchestrator.deliveries.values())
            timeout = _CLOSE_TIMEOUT if delivered else _AWAITING_TIMEOUT if awaits else _STOP_TIMEOUT
            orchestrator.stop("finished", 0, timeout)
    for name, delivery in orchestrator.deliveries.items():
        if not delivery.has_all(last):
            reasons.setdefault(name, delivery.reason or "timed out before everything was delivered")
    statuses = _statuses(folder, [backend.name for backend in targets], reasons)
    new = {name: max(0, status.delivered - before.get(name, Cursor()).delivered) for name, status in statuses.items()}
    remaining = [name for name in recorded_offline if name in orchestrator.deliveries and name not in reasons]
    not_uploaded = [name for name in remaining if pending_upload(name, folder)]
    if not_uploaded:  # upload the records that were recorded offline just now
        retry = _deliver(
            folder,
            not_uploaded,
            config=config,
            patience=patience,
            tell=tell,
            stands_in=stands_in,
            trust=trust,
            verify=False,
        )
        statuses |= {status.name: status for status in retry.backends}
    return Synced(folder=folder, backends=tuple(statuses.values()), new=new)


def _backend(
    name: str, folder: Path, facts: Mapping[str, Any], config: Mapping[str, Mapping[str, Any]], trust: bool
) -> Backend:
    """Create a backend. Of the journal's config, use only the keys that a journal stores: it may be somebody else's."""
    cls = backend_class(name)
    check_installed(name)
    own = config.get(name, {})
    keys = {*persistent_keys(cls), *filters.KEYS} - set(own)
    in_journal = facts.get(f"config {name}", {})
    stored = {key: value for key, value in in_journal.items() if key in keys}
    withheld = [key for key in in_journal.get(WITHHELD, ()) if key not in own]
    if withheld:
        raise ConfigurationError(
            f"{folder}: the journal does not store {name}'s {withheld[0]}, since it has credentials. "
            f"Pass it: --config {name}.{withheld[0]}=..."
        )
    backend = configured(cls, {**stored, **own})
    addresses.remember(addresses.addresses_in(own))
    unfamiliar = [] if trust else addresses.unfamiliar(addresses.addresses_in(stored))
    if unfamiliar:
        raise UntrustedServer(
            f"{folder}: the journal sends {name} to {', '.join(unfamiliar)}, a server that you have not configured. It "
            "would get your credentials. If you trust it, use: tracelet sync --trust"
        )
    return backend


def _upload_offline(backends: Sequence[Backend], info: RunInfo, guard: Guard) -> dict[str, str]:
    """Upload the vendors' offline recordings. Return the reasons of failures, by backend."""
    reasons = {}
    for backend in backends:
        assert isinstance(backend, OfflineRecording)
        error = guard.attempt(backend.upload_offline, info, time.monotonic() + _UPLOAD_TIMEOUT)
        if error is not None:
            reasons[backend.name] = guard.hide(getattr(error, "reason", None) or f"{type(error).__name__}: {error}")
    return reasons


def _statuses(folder: Path, names: Collection[str], reasons: Mapping[str, str]) -> dict[str, BackendStatus]:
    """Return the status of each backend from the journal, with the reason if it could not be synced."""
    with JournalReader(folder) as reader:
        records, cursors, facts = reader.last(), reader.cursors(), reader.facts()
    facts |= {f"trouble {name}": reasons.get(name) for name in names}
    return {name: stored_status(name, cursors.get(name, Cursor()), records, facts, folder) for name in names}
