"""Read the size of a distributed task from its plugin's configuration."""

from __future__ import annotations

from typing import Any, NamedTuple


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
