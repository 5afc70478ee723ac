"""Report the delivery status of one backend; any thread may read it or wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from tracelet.backends.base import Status
from tracelet.journal.status import BackendStatus, State, status_of
from tracelet.journal.tables import Cursor

NO_END = "it did not confirm the end of the run in time"


class Finish(NamedTuple):
    """The end of a run: its delivery ends at `deadline` (monotonic seconds), and the run `ended` before."""

    status: Status
    exit_code: int
    deadline: float
    ended: float | None


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
        self._state: State = "connecting"
        self._reason: str | None = None
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
    def state(self) -> State:
        return self._state

    @property
    def connected(self) -> bool:
        return self._state == "connected"

    @property
    def is_offline(self) -> bool:
        """True if the vendor records offline."""
        return self._state == "offline"

    @property
    def reason(self) -> str | None:
        """Why the backend is unavailable or offline; None if it has worked since."""
        return self._reason

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

    def status(self, cursor: Cursor, submitted: int, dropped: int) -> BackendStatus:
        """Return the status with the counts of an earlier `cursor`."""
        return status_of(self.name, cursor, submitted, self._state, self._reason, dropped=dropped, url=self.url)

    # Waiting. Deadlines are monotonic seconds.

    def wait_opened(self, deadline: float) -> bool:
        """Wait until the backend opened or failed once. Return True if it is open before `deadline`."""
        return self._wait_for(lambda: self._state != "connecting", deadline) and self._state in ("connected", "offline")

    def wait_confirmed(self, last: int, deadline: float) -> bool:
        """Return True if the backend confirms everything up to `last` before `deadline`."""
        self.request_flush(last)
        return self._wait_for(lambda: self.position >= last, deadline)

    def wait_ended(self, deadline: float) -> bool:
        """Return True if the backend is closed or abandoned before `deadline`."""
        if self._ended.wait(max(0.0, deadline - time.monotonic())):
            return True
        if self.was_open and self._reason is None:
            self._set_state("waiting", NO_END)
        return False

    # Updates by the delivery.

    def _set_state(self, state: State, reason: str | None) -> None:
        if (state, reason) != (self._state, self._reason):
            with self._changed:
                self._state, self._reason = state, reason
                self._changed.notify_all()

    def _set_open(self, offline_reason: str | None) -> None:
        self.was_open = True
        self._set_state("offline" if offline_reason else "connected", offline_reason)

    def _wait_for(self, condition: Callable[[], bool], deadline: float) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, max(0.0, deadline - time.monotonic()))
