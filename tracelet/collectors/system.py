"""How busy the machine and this process are: processor, memory, disk, network, and GPUs where there are some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil  # this module itself is imported on the collecting thread alone

from tracelet.collectors.base import Measure
from tracelet.collectors.nvml import Gpus


class System:
    """What can be measured here, tried once: a figure that this machine does not have is not asked for again."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._process = psutil.Process()
        self._gpus = Gpus()
        absent = (OSError, RuntimeError, psutil.Error, *self._gpus.errors)
        mine = [self._processor, self._memory, self._disk]
        counters = [_since(self._disk_bytes), _since(self._network_bytes)]
        self.measures: list[Measure] = [
            one for one in (*mine, *counters, *self._gpus.measures()) if _answers(one, absent)
        ]

    def close(self) -> None:
        self._gpus.close()

    def _processor(self) -> dict[str, float]:
        """Since the last time, or since the beginning."""
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
        counted = psutil.disk_io_counters()
        if counted is None:  # a machine without disks of its own
            return {}
        return {"disk_read_bytes": float(counted.read_bytes), "disk_written_bytes": float(counted.write_bytes)}

    def _network_bytes(self) -> dict[str, float]:
        counted = psutil.net_io_counters()
        if counted is None:
            return {}
        return {"network_received_bytes": float(counted.bytes_recv), "network_sent_bytes": float(counted.bytes_sent)}


def _since(counters: Callable[[], dict[str, float]]) -> Measure:
    """What was counted since the first time that was asked."""
    first: dict[str, float] = {}

    def measure() -> dict[str, float]:
        now = counters()
        return {name: value - first.setdefault(name, value) for name, value in now.items()}

    return measure


def _answers(measure: Measure, absent: tuple[type[Exception], ...]) -> bool:
    try:
        measure()
    except absent:
        return False
    return True
