"""Where one backend stands with the records of a run: what may be asked, and waited for, from any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec

from tracelet.backends.base import Status
from tracelet.journal.store import Cursor

NO_END = "it did not confirm the end of the run in time"
_OFFLINE = "offline: "
_OPEN = ("connected", _OFFLINE)


class DeliveryStats(msgspec.Struct, frozen=True, kw_only=True):
    """Where the records of a run are, for one backend; the five numbers add up to the records submitted."""

    delivered: int
    """Held durably by the backend."""
    pending: int
    """In the journal, not yet confirmed by the backend."""
    rejected: int
    """Refused by the backend for good and kept in the journal with the reason, or damaged in the journal's file."""
    filtered: int
    """Kept back by a filter, or of a kind that the backend has no place for."""
    dropped: int
    """Never reached the journal."""
    state: str
    """`connecting`, `connected`, `waiting: <reason>`, `offline: <reason>` (recorded by the vendor's own offline means)
    or `closed`."""
    filtered_by: dict[str, int] = {}
    """The filtered by the key of `config` that kept them back; by `accepts` where the backend has no place for them."""


class DeliveryHandle:
    """What is known of one backend. Who delivers, a thread here or another process, changes it."""

    def __init__(self, name: str, cursor: Cursor) -> None:
        self.name = name
        self.cursor = cursor
        self.written_seq = cursor.position
        """Every record up to here was handed to the vendor."""
        self.was_open = False
        self.url: str | None = None
        """Where a person can look at the run."""
        self._changed = threading.Condition()
        self._state = "connecting"
        self._trouble: str | None = None
        self._ended = threading.Event()

    # What a delivery does.

    def start(self) -> None:
        raise NotImplementedError

    def wake(self) -> None:
        """There may be something new to deliver."""
        raise NotImplementedError

    def ask_confirmed(self, last: int) -> None:
        """Make the backend flush what it has up to `last`."""
        raise NotImplementedError

    def finish(self, status: Status, exit_code: int, deadline: float) -> None:
        """Deliver what is in the journal, close the backend, end; give up waiting for the vendor at `deadline`."""
        raise NotImplementedError

    @property
    def is_current_thread(self) -> bool:
        """Called from the thread that delivers: it cannot wait for itself."""
        return False

    # What may be asked.

    @property
    def state(self) -> str:
        return self._state

    @property
    def connected(self) -> bool:
        return self._state == "connected"

    @property
    def is_offline(self) -> bool:
        """The vendor records offline what it is handed."""
        return self._state.startswith(_OFFLINE)

    @property
    def trouble(self) -> str | None:
        """The last reason why the backend could not take records, or takes a detour; None if there was none since."""
        return self._trouble

    @property
    def position(self) -> int:
        """Every record up to here is settled."""
        return self.cursor.position

    @property
    def ended(self) -> bool:
        """The backend was closed, or given up."""
        return self._ended.is_set()

    def stats(self, submitted: int, dropped: int) -> DeliveryStats:
        cursor = self.cursor
        settled = cursor.delivered + cursor.rejected + cursor.filtered
        return DeliveryStats(
            delivered=cursor.delivered,
            pending=submitted - dropped - settled,
            rejected=cursor.rejected,
            filtered=cursor.filtered,
            filtered_by=dict(cursor.filtered_by),
            dropped=dropped,
            state=self._state,
        )

    # What may be waited for. Deadlines are monotonic seconds.

    def wait_opened(self, deadline: float) -> bool:
        """Whether the backend is open, or gave its first refusal, before `deadline`."""
        return self._wait(lambda: self._state != "connecting", deadline) and self._state.startswith(_OPEN)

    def wait_confirmed(self, last: int, deadline: float) -> bool:
        """Whether the backend confirmed everything up to `last` before `deadline`."""
        self.ask_confirmed(last)
        return self._wait(lambda: self.position >= last, deadline)

    def wait_ended(self, deadline: float) -> bool:
        """Whether the backend was closed, or given up, before `deadline`."""
        if self._ended.wait(max(0.0, deadline - time.monotonic())):
            return True
        if self.was_open and self._trouble is None:
            self._trouble = NO_END
            self._set_state(f"waiting: {NO_END}")
        return False

    # What who delivers says.

    def _set_state(self, state: str) -> None:
        if state != self._state:
            with self._changed:
                self._state = state
                self._changed.notify_all()

    def _opened_on(self, offline_reason: str | None) -> None:
        self.was_open, self._trouble = True, offline_reason
        self._set_state(f"{_OFFLINE}{offline_reason}" if offline_reason else "connected")

    def _wait(self, reached: Callable[[], bool], deadline: float) -> bool:
        with self._changed:
            return self._changed.wait_for(reached, max(0.0, deadline - time.monotonic()))
