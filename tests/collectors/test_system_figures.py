"""system: the figures of this machine, by psutil; those that it does not have; GPUs by a stand-in for NVML."""

import os
import sys
import textwrap
from types import SimpleNamespace

import psutil
import pytest

from tracelet.collectors.nvml import Gpus
from tracelet.collectors.system import System

# There is no GPU where this is tested: a module with the few functions of NVML that are used, as their manual has them.
NVML = """
    from types import SimpleNamespace

    NVML_TEMPERATURE_GPU = 0
    open_times = 0
    devices = ["GPU-aaa", "GPU-bbb"]

    class NVMLError(Exception):
        pass

    def nvmlInit():
        global open_times
        if not devices:
            raise NVMLError("Driver Not Loaded")
        open_times += 1

    def nvmlShutdown():
        global open_times
        open_times -= 1

    def nvmlDeviceGetCount():
        return len(devices)

    def nvmlDeviceGetHandleByIndex(index):
        if index >= len(devices):
            raise NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByUUID(uuid):
        if uuid not in devices:
            raise NVMLError("Not Found")
        return devices.index(uuid)

    def nvmlDeviceGetName(handle):
        return f"Card {handle}".encode() if handle else "Card 0"

    def nvmlSystemGetDriverVersion():
        return "550.1"

    def nvmlDeviceGetUtilizationRates(handle):
        return SimpleNamespace(gpu=40 + handle, memory=3)

    def nvmlDeviceGetMemoryInfo(handle):
        return SimpleNamespace(total=1000, used=250, free=750)

    def nvmlDeviceGetTemperature(handle, sensor):
        return 61

    def nvmlDeviceGetPowerUsage(handle):
        if handle == 1:
            raise NVMLError("Not Supported")
        return 123456
"""
FIGURES = {
    "cpu_percent",
    "process_cpu_percent",
    "memory_percent",
    "process_memory_bytes",
    "disk_percent",
    "disk_bytes",
}
COUNTERS = {"disk_read_bytes", "disk_written_bytes", "network_received_bytes", "network_sent_bytes"}


@pytest.fixture
def nvml(tmp_path, monkeypatch):
    """The stand-in; `devices` can be changed."""
    (tmp_path / "stand-in").mkdir()
    (tmp_path / "stand-in" / "pynvml.py").write_text(textwrap.dedent(NVML))
    monkeypatch.syspath_prepend(str(tmp_path / "stand-in"))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    import pynvml

    yield pynvml
    assert 0 == pynvml.open_times
    del sys.modules["pynvml"]


@pytest.fixture
def no_nvml(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)


def sample(system):
    return {name: value for measure in system.measures for name, value in measure().items()}


def test_the_figures_of_this_machine(tmp_path, no_nvml):
    system = System(tmp_path)
    told = sample(system)
    system.close()
    assert FIGURES <= set(told) <= FIGURES | COUNTERS
    assert all(isinstance(value, float) for value in told.values())
    for name in ("cpu_percent", "memory_percent", "disk_percent"):
        assert 0 <= told[name] <= 100
    assert 2**20 < told["process_memory_bytes"] < psutil.virtual_memory().total
    assert 0 < told["disk_bytes"] <= psutil.disk_usage(str(tmp_path)).total


def test_work_is_seen(tmp_path, no_nvml):
    """A process that works has used the processor since the last sample."""
    system = System(tmp_path)
    before = psutil.Process().cpu_times().user
    while psutil.Process().cpu_times().user - before < 0.2:
        sum(range(10_000))
    assert sample(system)["process_cpu_percent"] > 0


def test_counters_begin_at_the_start(tmp_path, no_nvml, monkeypatch):
    """Machines count since they were switched on; a run counts since it began."""
    readings = iter([SimpleNamespace(read_bytes=number, write_bytes=50) for number in (1000, 1700)])
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: next(readings))
    told = sample(System(tmp_path))
    assert (700.0, 0.0) == (told["disk_read_bytes"], told["disk_written_bytes"])


@pytest.mark.parametrize("absent", [NotImplementedError("no /proc/diskstats"), PermissionError(), None])
def test_what_a_machine_does_not_count_is_not_asked_for(tmp_path, no_nvml, monkeypatch, absent):
    """The other figures are there all the same."""

    def counters():
        if absent is not None:
            raise absent

    monkeypatch.setattr(psutil, "disk_io_counters", counters)
    monkeypatch.setattr(psutil, "net_io_counters", counters)
    assert FIGURES == set(sample(System(tmp_path)))


def test_gpus(tmp_path, nvml):
    """Each device's figures; those that one does not have are left out."""
    system = System(tmp_path)
    told = {name: value for name, value in sample(system).items() if name.startswith("gpu")}
    system.close()
    both = {"memory_bytes": 250.0, "memory_percent": 25.0, "temperature_celsius": 61.0}
    assert {
        **{f"gpu/{at}/{name}": value for at in (0, 1) for name, value in both.items()},
        "gpu/0/percent": 40.0,
        "gpu/1/percent": 41.0,
        "gpu/0/power_watts": 123.456,
    } == told


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["Card 0", "Card 1"]),
        ("", []),
        ("1", ["Card 1"]),
        ("1,0", ["Card 1", "Card 0"]),
        ("GPU-bbb", ["Card 1"]),
        ("0,7,1", ["Card 0"]),
        ("-1", []),
    ],
)
def test_gpus_are_counted_as_the_program_counts_them(nvml, monkeypatch, visible, names):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = Gpus()
    assert (names, "550.1") == (gpus.names(), gpus.driver())
    gpus.close()


def test_no_driver_and_no_package_are_silence(nvml, monkeypatch, caplog):
    nvml.devices.clear()
    for package in (nvml, None):
        monkeypatch.setitem(sys.modules, "pynvml", package)
        gpus = Gpus()
        assert ([], None, []) == (gpus.names(), gpus.driver(), gpus.measures())
        gpus.close()
    assert "" == caplog.text
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None
