"""The ids of the runs of a task, as the runs and the links to them have them."""

from __future__ import annotations

import hashlib
import re

_LONGEST, _LONGEST_OF_JOB = 64, 42
"""Characters of a run id; of the base in a distributed task, which `-worker-9999-rank-9999` may follow."""
_DIGEST = 12


def base_id(run_name: str | None, action_name: str, *, is_distributed: bool) -> str:
    """Return `{run_name}-{action_name}`; a text of its digest at the end if that is too long for a run id."""
    text = f"{run_name}-{action_name}"
    longest = _LONGEST_OF_JOB if is_distributed else _LONGEST
    if len(text) <= longest or "{{" in text:  # Flyte fills in templates later
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
    return f"{text[: longest - _DIGEST - 1]}-{digest}"


def label(action_name: str) -> str:
    """Return the name of a task among the processes that write one run."""
    return re.sub(r"[^A-Za-z0-9_.\-]", "-", action_name)
