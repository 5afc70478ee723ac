"""Report the delivery status of one backend; any thread may read it or wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from tracelet.backends.base import Status
from tracelet.journal.tables import Cursor

NO_END = "it did not confirm the end of the run in time"
_OFFLINE = "offline: "
_OPEN = ("connected", _OFFLINE)


class Finish(NamedTuple):
    """The end of a run: its delivery ends at `deadline` (monotonic seconds), and the run `ended` before."""

    status: Status
    exit_code: int
    deadline: float
    ended: float | None


class DeliveryStats(msgspec.Struct, frozen=True, kw_only=True):
    """Count a run's records by outcome for one backend. The five counts add up to the submitted records."""

    delivered: int
    """Stored durably by the backend."""
    pending: int
    """In the journal, not yet confirmed by the backend."""
    rejected: int
    """Rejected by the backend and stored in the journal with the reason, or damaged in the journal file."""
    filtered: int
    """Excluded by a filter, or of a kind that the backend does not accept."""
    dropped: int
    """Lost before they reached the journal."""
    state: str
    """`connecting`, `connected`, `waiting: <reason>`, `offline: <reason>` (the vendor records offline) or `closed`."""
    filtered_by: dict[str, int] = {}
    """Filtered records by the `config` key that excluded them, or `accepts` if the backend does not accept the kind."""


class DeliveryHandle:
    """Hold the delivery status of one backend. A delivery thread or the delivery process updates it."""

    def __init__(self, name: str, cursor: Cursor) -> None:
        self.name = name
        self.cursor = cursor
        self.written_seq = cursor.position
        """Every record up to this number was written to the vendor."""
        self.was_open = False
        self.url: str | None = None
        """The address of the run's web page."""
        self._changed = threading.Condition()
        self._state = "connecting"
        self._trouble: str | None = None
        self._ended = threading.Event()

    # Commands to the delivery.

    def start(self) -> None:
        raise NotImplementedError

    def wake(self) -> None:
        """Check the journal for new records."""
        raise NotImplementedError

    def request_flush(self, last: int) -> None:
        """Make the backend flush the records up to `last`."""
        raise NotImplementedError

    def finish(self, status: Status, exit_code: int, deadline: float, ended: float | None = None) -> None:
        """Deliver the rest of the journal and close the backend of a run that `ended` then.

        Stop waiting for the vendor at `deadline`.
        """
        raise NotImplementedError

    @property
    def is_current_thread(self) -> bool:
        """True if called on the delivery thread, which cannot wait for itself."""
        return False

    # Status.

    @property
    def state(self) -> str:
        return self._state

    @property
    def connected(self) -> bool:
        return self._state == "connected"

    @property
    def is_offline(self) -> bool:
        """True if the vendor records offline."""
        return self._state.startswith(_OFFLINE)

    @property
    def trouble(self) -> str | None:
        """Why the backend is unavailable or offline; None if it has worked since."""
        return self._trouble

    @property
    def position(self) -> int:
        """Every record up to this number is delivered, filtered or rejected."""
        return self.cursor.position

    @property
    def ended(self) -> bool:
        """True if the backend was closed or abandoned."""
        return self._ended.is_set()

    def has_all(self, last: int) -> bool:
        """Return True if the backend has every record up to `last`, and was closed: some write files then."""
        return self.position >= last and self._state == "closed"

    def stats(self, cursor: Cursor, submitted: int, dropped: int) -> DeliveryStats:
        processed = cursor.delivered + cursor.rejected + cursor.filtered
        return DeliveryStats(
            delivered=cursor.delivered,
            pending=submitted - dropped - processed,
            rejected=cursor.rejected,
            filtered=cursor.filtered,
            filtered_by=dict(cursor.filtered_by),
            dropped=dropped,
            state=self._state,
        )

    # Waiting. Deadlines are monotonic seconds.

    def wait_opened(self, deadline: float) -> bool:
        """Wait until the backend opened or failed once. Return True if it is open before `deadline`."""
        return self._wait_for(lambda: self._state != "connecting", deadline) and self._state.startswith(_OPEN)

    def wait_confirmed(self, last: int, deadline: float) -> bool:
        """Return True if the backend confirms everything up to `last` before `deadline`."""
        self.request_flush(last)
        return self._wait_for(lambda: self.position >= last, deadline)

    def wait_ended(self, deadline: float) -> bool:
        """Return True if the backend is closed or abandoned before `deadline`."""
        if self._ended.wait(max(0.0, deadline - time.monotonic())):
            return True
        if self.was_open and self._trouble is None:
            self._trouble = NO_END
            self._set_state(f"waiting: {NO_END}")
        return False

    # Updates by the delivery.

    def _set_state(self, state: str) -> None:
        if state != self._state:
            with self._changed:
                self._state = state
                self._changed.notify_all()

    def _set_open(self, offline_reason: str | None) -> None:
        self.was_open, self._trouble = True, offline_reason
        self._set_state(f"{_OFFLINE}{offline_reason}" if offline_reason else "connected")

    def _wait_for(self, condition: Callable[[], bool], deadline: float) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, max(0.0, deadline - time.monotonic()))
