"""What a server's Retry-After header asks for."""

from __future__ import annotations

import time

THROTTLED = (429, 503)
"""The answers that come with one."""


def retry_after_seconds(header: str | None) -> float | None:
    """The seconds from now that a header's number or date means; None where it says nothing."""
    from email.utils import parsedate_to_datetime  # here: few answers have one

    text = (header or "").strip()
    try:
        return max(0.0, float(text) if text.isdigit() else parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
