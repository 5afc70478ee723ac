"""Names of wandb's system metrics in tracelet's."""

from __future__ import annotations

import re

_MEGABYTE = 2**20
_NAMES = {
    "memory_percent": ("memory_percent", 1),
    "proc.memory.rssMB": ("process_memory_bytes", _MEGABYTE),
    "network.recv": ("network_received_bytes", 1),
    "network.sent": ("network_sent_bytes", 1),
    "disk./.usagePercent": ("disk_percent", 1),
}
_GPU = re.compile(r"gpu\.(\d+)\.(\w+)")
_GPU_NAMES = {
    "gpu": "percent",
    "memoryAllocated": "memory_percent",
    "memoryAllocatedBytes": "memory_bytes",
    "temp": "temperature_celsius",
    "powerWatts": "power_watts",
}


def system_metric(key: str) -> tuple[str, int]:
    """Return the tag of a metric, and the factor to tracelet's unit. One that tracelet lacks keeps its name."""
    name, factor = _NAMES.get(key, (key, 1))
    match = _GPU.fullmatch(key)
    if match and match[2] in _GPU_NAMES:
        name = f"gpu/{match[1]}/{_GPU_NAMES[match[2]]}"
    return f"system/{name}", factor
