"""NVIDIA's GPUs, asked through NVML. Where there is no driver, or no package to ask it with, there are none."""

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
    """The GPUs that this process may use, in the program's own count, until `close`."""

    def __init__(self) -> None:
        self._nvml = _begun()
        self._handles = [] if self._nvml is None else list(_handles(self._nvml))

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What NVML says where a device has no such figure."""
        return () if self._nvml is None else (self._nvml.NVMLError,)

    def names(self) -> list[str]:
        nvml = self._nvml
        return [_text(nvml.nvmlDeviceGetName(handle)) for handle in self._handles]

    def driver(self) -> str | None:
        return None if self._nvml is None else _text(self._nvml.nvmlSystemGetDriverVersion())

    def measures(self) -> list[Measure]:
        """One for each figure of each device: not every device has every figure."""
        kinds = (self._load, self._memory, self._temperature, self._power)
        return [partial(kind, f"gpu/{at}", handle) for at, handle in enumerate(self._handles) for kind in kinds]

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


def _begun() -> Any:
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
    """As CUDA reads its variable: what follows a word that names no device is not visible."""
    visible = environment_of((_VISIBLE,)).get(_VISIBLE)
    words = range(nvml.nvmlDeviceGetCount()) if visible is None else [word.strip() for word in visible.split(",")]
    with contextlib.suppress(nvml.NVMLError):
        for word in words:
            if isinstance(word, int) or word.isdecimal():
                yield nvml.nvmlDeviceGetHandleByIndex(int(word))
            elif word:
                yield nvml.nvmlDeviceGetHandleByUUID(word)


def _text(said: str | bytes) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said  # bytes in older releases
