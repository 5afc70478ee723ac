"""The ids of the runs of a task, as the runs and the links to them have them; and the size of a distributed task."""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

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


class Size(NamedTuple):
    """Nodes, and whether there are several processes."""

    nodes: int = 1
    is_distributed: bool = False


def elastic_size(plugin_config: Any) -> Size:
    """Return the size of a task with Flyte's `Elastic`, or of one process. Of a range of nodes, the last counts."""
    nodes, per_node = getattr(plugin_config, "nnodes", None), getattr(plugin_config, "nproc_per_node", None)
    if nodes is None or per_node is None:
        return Size()
    count = int(str(nodes).rpartition(":")[2])
    # "gpu" or "auto": as many as the node has devices.
    has_several = not str(per_node).isdigit() or int(per_node) > 1
    return Size(count, count > 1 or has_several)
