"""Report how far one backend is with the records of a run."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from tracelet.journal.tables import Cursor

State: TypeAlias = Literal["connecting", "connected", "offline", "waiting", "closed"]


class BackendStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run at one backend. The five counts add up to the submitted records."""

    name: str
    state: State = "closed"  # for summaries of removed journals that earlier versions wrote
    """`connecting`, `connected`, `offline` (the vendor records offline), `waiting` (unavailable, or it lacks records of
    a run whose process is not this one), or `closed`."""
    reason: str | None = None
    """Why it is offline or waiting, or was when the run, or its last delivery, ended."""
    delivered: int
    """Stored durably by the backend."""
    pending: int
    """In the journal, not yet confirmed by the backend."""
    rejected: int
    """Rejected by the backend and stored in the journal with the reason, or damaged in the journal file."""
    filtered: int
    """Excluded by a filter, or of a kind that the backend does not accept."""
    dropped: int = 0
    """Lost before they reached the journal. 0 for a past run: a journal does not count them."""
    filtered_by: dict[str, int] = {}
    """Filtered records by the `config` key that excluded them, or `accepts` if the backend does not accept the kind."""
    url: str | None = None
    """The web page of the run, as of the last delivery."""
    pending_upload: str | None = None
    """The location of the vendor's offline recording, if it is not uploaded yet. `stats` does not look for it."""

    @property
    def described_state(self) -> str:
        """The state, and its reason without the backend's name."""
        return f"{self.state}: {self.short_reason}" if self.reason else self.state

    @property
    def short_reason(self) -> str:
        """The reason without the backend's name before it; empty if there is none."""
        return (self.reason or "").removeprefix(f"{self.name}: ")


def status_of(
    name: str,
    cursor: Cursor,
    submitted: int,
    state: State,
    reason: str | None,
    *,
    dropped: int = 0,
    url: str | None = None,
    pending_upload: str | None = None,
) -> BackendStatus:
    """Return the status of a backend that has processed the records that `cursor` counts, of `submitted` records."""
    return BackendStatus(
        name=name,
        state=state,
        reason=reason,
        delivered=cursor.delivered,
        pending=submitted - dropped - cursor.delivered - cursor.rejected - cursor.filtered,
        rejected=cursor.rejected,
        filtered=cursor.filtered,
        dropped=dropped,
        filtered_by=dict(cursor.filtered_by),
        url=url,
        pending_upload=pending_upload,
    )
