"""What every test stands on: nothing swallowed unseen, nothing from outside, nothing left behind."""

import dataclasses
import importlib
import os
import signal
import tempfile
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
from support import WRITER_MODULES, our_threads

import tracelet
from tracelet import guard
from tracelet.backends.memory import MemoryBackend

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A suite that was started in the background ignores Ctrl-C, and its programs, which are to meet one, would as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Runs of tests say what the tests say; tests/collectors is where collecting is tested. Here, since fixtures of a module
# begin their programs before `_isolated`.
os.environ["TRACELET_COLLECT"] = "none"

# The same examples each time; new ones are looked for by `make test-long`.
hypothesis.settings.register_profile("tracelet", deadline=None, database=None, derandomize=True)
hypothesis.settings.load_profile("tracelet")

_FOREIGN = ("TRACELET_", "WANDB_", "MLFLOW_", "CLEARML_", "AIM_", "TORCHELASTIC_", "SLURM_")
_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK")


# Whole frameworks, vendors' servers, programs that are killed: `make test-quick` leaves these out.
_HEAVY = (
    *("frameworks/", "scripts/", "capture/tensorboard/test_lifecycle.py", "cli/test_run.py", "cli/test_doctor.py"),
    *(f"backends/test_{name}.py" for name in ("aim", "clearml", "mlflow", "mlflow_server", "wandb", "wandb_server")),
    *(f"backends/test_{name}.py" for name in ("every_backend", "faults")),
    *("delivery/test_process_everywhere.py", "delivery/test_thread_model.py", "journal/test_power_cut.py"),
    *("journal/test_store_model.py", "runs/test_page_browser.py", "test_docs.py", "test_kill.py"),
    "test_sync_everywhere.py",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.relative_to(Path(__file__).parent).as_posix().startswith(_HEAVY):
            item.add_marker(pytest.mark.heavy)


@pytest.fixture(scope="session")
def _fonts(tmp_path_factory):
    """Where matplotlib keeps its font list: it takes seconds to make, so it is made once."""
    return tmp_path_factory.mktemp("matplotlib")


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch, _fonts):
    """No setting of the person who runs the tests reaches them, and what they write lies below `tmp_path`."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name in _RANKS:
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    places = {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home, "MPLCONFIGDIR": _fonts}
    places |= {f"WANDB_{kind}": home for kind in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR")}
    places |= {"TRACELET_DIR": tmp_path / "runs", "CLEARML_CACHE_DIR": home / "clearml"}
    places |= {"TMPDIR": home}
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    for name, path in places.items():
        monkeypatch.setenv(name, str(path))
    monkeypatch.setenv("TRACELET_COLLECT", "none")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("CLEARML_OFFLINE_MODE", "1")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def swallowed(monkeypatch):
    """Exceptions that the guard kept from the program. A test that expects one clears the list; what is left fails."""
    errors = []
    monkeypatch.setattr(guard, "observer", errors.append)
    yield errors
    if errors:
        raise errors[0]


@pytest.fixture(autouse=True)
def _nothing_left(_isolated, swallowed):
    """The run that a test leaves active is ended, and takes its threads with it."""
    yield
    tracelet.stop_logging(timeout=10)
    assert [] == our_threads()


# A run with a backend in memory.


@pytest.fixture
def memory():
    """A backend that keeps the records in a list."""
    return MemoryBackend()


@pytest.fixture
def experiment(memory):
    """A run that delivers to `memory`."""
    return tracelet.start_logging(backend=memory)


@pytest.fixture
def records(experiment, memory):
    """`records()`: what has arrived in `memory` of all that was said so far."""

    def arrived():
        assert experiment.flush(30)
        return list(memory.records)

    return arrived


# The two libraries.


@dataclasses.dataclass(frozen=True)
class Library:
    """torch's or tensorboardX's writer module, by the names that both have."""

    name: str
    module: ModuleType

    @property
    def SummaryWriter(self):
        return self.module.SummaryWriter

    @property
    def FileWriter(self):
        return self.module.FileWriter

    @property
    def is_torch(self):
        return self.name == "torch"


@pytest.fixture(params=list(WRITER_MODULES))
def lib(request):
    """Each of the two libraries."""
    return Library(request.param, importlib.import_module(WRITER_MODULES[request.param]))


@pytest.fixture
def writer(lib, tmp_path):
    """A writer in `tmp_path/logs`, made before any run begins."""
    with lib.SummaryWriter(str(tmp_path / "logs")) as made:
        yield made


# Event files, read by TensorBoard's own loader.


@pytest.fixture
def read_events():
    """`read_events(folder)`: the events of the files in `folder` itself, as they were written, in order."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    def read(folder):
        paths = sorted(Path(folder).glob("events.out.tfevents.*"))
        return [Event.FromString(data) for path in paths for data in RawEventFileLoader(str(path)).Load()]

    return read


@pytest.fixture
def read_values(read_events):
    """`read_values(folder)`: (event, summary value) of every value in the files of `folder`."""

    def read(folder):
        return [(event, value) for event in read_events(folder) for value in event.summary.value]

    return read
