"""Measure the load of the machine and this process: CPU, memory, disk, network, and GPUs if there are any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil  # this module is imported on the collector thread only

from tracelet.collectors.base import Measure
from tracelet.collectors.nvml import Gpus


class System:
    """The system metrics of this machine. Try each once, and drop it if the machine does not have it."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._process = psutil.Process()
        self._gpus = Gpus()
        missing = (OSError, RuntimeError, psutil.Error, *self._gpus.errors)
        own = [self._processor, self._memory, self._disk]
        counters = [_since(self._disk_bytes), _since(self._network_bytes)]
        self.measures: list[Measure] = [
            measure for measure in (*own, *counters, *self._gpus.measures()) if _works(measure, missing)
        ]

    def close(self) -> None:
        self._gpus.close()

    def _processor(self) -> dict[str, float]:
        """Return the CPU load since the last call, or since the start."""
        return {"cpu_percent": psutil.cpu_percent(), "process_cpu_percent": self._process.cpu_percent()}

    def _memory(self) -> dict[str, float]:
        return {
            "memory_percent": psutil.virtual_memory().percent,
            "process_memory_bytes": float(self._process.memory_info().rss),
        }

    def _disk(self) -> dict[str, float]:
        used = psutil.disk_usage(self._folder)
        return {"disk_percent": used.percent, "disk_bytes": float(used.used)}

    def _disk_bytes(self) -> dict[str, float]:
        counters = psutil.disk_io_counters()
        if counters is None:  # a machine without local disks
            return {}
        return {"disk_read_bytes": float(counters.read_bytes), "disk_written_bytes": float(counters.write_bytes)}

    def _network_bytes(self) -> dict[str, float]:
        counters = psutil.net_io_counters()
        if counters is None:
            return {}
        return {"network_received_bytes": float(counters.bytes_recv), "network_sent_bytes": float(counters.bytes_sent)}


def _since(counters: Callable[[], dict[str, float]]) -> Measure:
    """Return a measure of the counts since its first call."""
    first: dict[str, float] = {}

    def measure() -> dict[str, float]:
        now = counters()
        return {name: value - first.setdefault(name, value) for name, value in now.items()}

    return measure


def _works(measure: Measure, missing: tuple[type[Exception], ...]) -> bool:
    try:
        measure()
    except missing:
        return False
    return True
