"""Read NVIDIA GPUs through NVML. If the driver or the package is missing, there are no GPUs."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from tracelet.collectors.base import Measure
from tracelet.settings import environment_of

_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Gpus:
    """The GPUs visible to this process, numbered as in the program, until `close`."""

    def __init__(self) -> None:
        self._nvml = _initialized()
        self._handles = [] if self._nvml is None else list(_handles(self._nvml))

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """The exceptions that NVML raises if a device does not have a metric."""
        return () if self._nvml is None else (self._nvml.NVMLError,)

    def names(self) -> list[str]:
        nvml = self._nvml
        return [_text(nvml.nvmlDeviceGetName(handle)) for handle in self._handles]

    def driver(self) -> str | None:
        return None if self._nvml is None else _text(self._nvml.nvmlSystemGetDriverVersion())

    def measures(self) -> list[Measure]:
        """Return one measure per metric and device: not every device has every metric."""
        kinds = (self._load, self._memory, self._temperature, self._power)
        return [partial(kind, f"gpu/{index}", handle) for index, handle in enumerate(self._handles) for kind in kinds]

    def close(self) -> None:
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _load(self, name: str, handle: Any) -> dict[str, float]:
        return {f"{name}/percent": float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)}

    def _memory(self, name: str, handle: Any) -> dict[str, float]:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        return {
            f"{name}/memory_bytes": float(memory.used),
            f"{name}/memory_percent": 100 * memory.used / max(1, memory.total),
        }

    def _temperature(self, name: str, handle: Any) -> dict[str, float]:
        nvml = self._nvml
        return {f"{name}/temperature_celsius": float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))}

    def _power(self, name: str, handle: Any) -> dict[str, float]:
        return {f"{name}/power_watts": self._nvml.nvmlDeviceGetPowerUsage(handle) / 1000}


def _initialized() -> Any:
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def _handles(nvml: Any) -> Iterator[Any]:
    """Yield the visible devices. As in CUDA, all entries after an invalid one are ignored."""
    visible = environment_of((_VISIBLE,)).get(_VISIBLE)
    entries = range(nvml.nvmlDeviceGetCount()) if visible is None else [entry.strip() for entry in visible.split(",")]
    with contextlib.suppress(nvml.NVMLError):
        for entry in entries:
            if isinstance(entry, int) or entry.isdecimal():
                yield nvml.nvmlDeviceGetHandleByIndex(int(entry))
            elif entry:
                yield nvml.nvmlDeviceGetHandleByUUID(entry)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value  # bytes in older releases
