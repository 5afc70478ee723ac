"""Count the records of a run by outcome, and log the counts at its end."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence

import msgspec

from tracelet.backends.base import Status
from tracelet.guard import logger
from tracelet.journal.status import BackendStatus
from tracelet.records import RunInfo


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Count the run's records by outcome.

    For each backend, submitted == delivered + pending + rejected + filtered + dropped.
    """

    submitted: int
    backends: dict[str, BackendStatus]
    waited: int
    """Calls that waited for room in the queue to the journal."""
    causes: dict[str, int]
    """Counts of dropped records and errors, by cause; empty if there were none."""


def log_end(
    info: RunInfo,
    status: Status,
    final: Stats,
    urls: Mapping[str, str | None],
    logged_url: str | None,
    expected: Sequence[str],
) -> None:
    """Log the result of a run, and how to deliver what is pending.

    Args:
        logged_url: The web page in the first log line.
        expected: The backends of a run in offline mode, which has its records in the journal only.
    """
    lines, undelivered = [f"{final.submitted} records"], []
    for name, stats in final.backends.items():
        counts = [f"{stats.delivered} delivered"]
        for key in ("pending", "rejected", "filtered", "dropped"):
            if count := getattr(stats, key):
                counts.append(f"{count} {key}")
        url = urls.get(name)
        page = f" ({url})" if url and url != logged_url else ""  # it connected after the start
        lines.append(f"{name}: {', '.join(counts)}{page}")
        if stats.pending or (stats.state == "waiting" and not stats.dropped):
            undelivered.append(name)
    if final.submitted:
        lines += [f"{name}: {final.submitted} pending" for name in expected]
        undelivered += expected
    level = logging.WARNING if undelivered or final.causes else logging.INFO
    logger.log(level, "tracelet: run %s %s; %s. Journal: %s", info.run_id, status, "; ".join(lines), info.folder)
    if undelivered:
        pending = max((stats.pending for stats in final.backends.values()), default=final.submitted)
        logger.warning(
            "tracelet: %s. Run: tracelet sync %s",
            f"{pending} records are not delivered yet; they are stored in the journal"
            if pending
            else f"{', '.join(undelivered)} did not confirm the end of the run",
            shlex.quote(info.folder),
        )
