"""What every test stands on: nothing swallowed unseen, nothing from outside, nothing left behind."""

import dataclasses
import gc
import importlib
import os
import signal
import tempfile
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
from support import TESTS, WRITER_MODULES, our_threads

import tracelet
from tracelet import guard
from tracelet.backends.memory import MemoryBackend

# The state that a process inherits from its parent: `nohup`, `&` in a shell script, a Git hook, a terminal.
for _number in (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())
os.umask(0o022)
_INHERITED = (
    *(
        "TRACELET_",
        "WANDB_",
        "MLFLOW_",
        "CLEARML_",
        "TRAINS_",
        "AIM_",
        "TRACKIO_",
        "TORCHELASTIC_",
        "SLURM_",
        "OMPI_",
        "PMI",
        "PALS_",
        "MV2_",
        "PBS_",
        "LSB_",
        "GIT_",
        "LC_",
        "PYTHON",
    ),
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK", "CROSS_RANK", "MASTER_"),
    *("LANG", "TZ", "COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "XDG_", "DISPLAY"),
    *("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "COVERAGE_"),
)
for _name in list(os.environ):
    if _name.startswith(_INHERITED):
        del os.environ[_name]
os.environ |= {"LC_ALL": "C.UTF-8", "TZ": "UTC", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

# Vendors' reports to their makers, by threads that outlive a test.
os.environ |= {"WANDB_ERROR_REPORTING": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}

# Runs of tests collect nothing; tests/collectors is where collecting is tested. Here, since fixtures of a module start
# their programs before `_isolated`.
os.environ["TRACELET_COLLECT"] = "none"

# The same examples each time; new ones are looked for by `make test-long`.
hypothesis.settings.register_profile("tracelet", deadline=None, database=None, derandomize=True)
hypothesis.settings.load_profile("tracelet")


# Whole frameworks, vendors' servers, programs that are killed: `make test-quick` leaves these out.
_HEAVY = (
    *("capture/wandb/", "frameworks/", "scripts/"),
    *(f"capture/tensorboard/test_{name}.py" for name in ("compiler", "events_async", "events_off", "lifecycle")),
    *(f"cli/test_{name}.py" for name in ("completion", "doctor", "progress", "run", "sync_command", "view")),
    *(
        f"backends/test_{name}.py"
        for name in ("aim", "clearml", "csvfile", "mlflow", "mlflow_server", "tensorboard", "wandb", "wandb_server")
    ),
    *(
        f"backends/test_{name}.py"
        for name in (
            "every_backend",
            "faults",
            "fidelity",
            "filters_model",
            "outage",
            "third_party",
            "vendors",
            "webhook",
        )
    ),
    *(f"delivery/test_{name}.py" for name in ("process", "process_everywhere", "thread_model")),
    *(f"experiment/test_{name}.py" for name in ("exit", "exit_callbacks", "sigterm", "summary_tags_alert")),
    *("collectors/test_collecting.py", "compat/test_ezpz_vendors.py", "compat/wandb/test_five_programs.py"),
    *(f"importer/test_{name}.py" for name in ("from_aim", "from_mlflow", "from_wandb", "import_hostile")),
    *(
        f"distributed/test_{name}.py"
        for name in ("ddp", "flyte_elastic", "flyte_ranks", "sharing", "torchrun", "torchrun_shared")
    ),
    *("journal/test_power_cut.py", "journal/test_store_model.py", "runs/test_page_"),
    *(
        f"test_{name}.py"
        for name in (
            "adversity",
            "any_to_any",
            "docs",
            "end_to_end",
            "examples",
            "forks",
            "kill",
            "resume",
            "sync_everywhere",
        )
    ),
)
# Files whose tests share a server, a browser or a finished program: each is run by one worker.
_SHARING = (
    *("backends/test_aim.py", "backends/test_every_backend.py", "backends/test_faults.py"),
    *("backends/test_mlflow_server.py", "compat/test_ezpz_vendors.py", "compat/wandb/test_five_programs.py"),
    *("delivery/test_process_everywhere.py", "distributed/test_torchrun.py"),
    "distributed/test_flyte_ranks.py",
    *("distributed/test_torchrun_shared.py", "test_resume.py", "test_sync_everywhere.py"),
    *("cli/test_view.py", "importer/test_from_aim.py", "importer/test_from_mlflow.py", "importer/test_from_wandb.py"),
    *("long/test_any_to_any_all.py", "test_any_to_any.py"),
)


def pytest_ignore_collect(collection_path, config):
    """Spare `make test-quick` the imports of the heavy files."""
    is_quick = "not heavy" in config.option.markexpr
    return True if is_quick and str(collection_path.relative_to(TESTS)).startswith(_HEAVY) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the heavy tests, and those in the folder `long`. `pytest -m` selects by the marks after this."""
    for item in items:
        if item.nodeid.removeprefix("tests/").startswith(_HEAVY):
            item.add_marker(pytest.mark.heavy)
        if item.nodeid.startswith("tests/long/"):
            item.add_marker(pytest.mark.long)


def _group(nodeid):
    """Return the same text for tests that share something: their file, in some the server or program too."""
    path, _, case = nodeid.removeprefix("tests/").partition("::")
    if path.startswith("runs/test_page_"):  # they share one browser
        return "runs/test_page_"
    if path not in _SHARING:
        return nodeid
    place = case.partition("[")[2]
    if path == "backends/test_every_backend.py":
        return f"{path} {'server' in place}"
    if path == "backends/test_faults.py" or "test_any_to_any" in path:
        return f"{path} {place.partition('-')[0]}"
    return path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Group by `_group`: the marks of pytest-xdist 3.8 are without effect in pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _group(nodeid)

    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Spare the garbage collector, and our search for writers, the objects of all earlier tests."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """Print the failures also after an error of pytest itself, which otherwise hides them."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == pytest.ExitCode.INTERNAL_ERROR and reporter is not None:
        reporter.summary_failures()
        reporter.summary_errors()
        reporter.short_test_summary()


@pytest.fixture(scope="session")
def _fonts(tmp_path_factory):
    """Where matplotlib keeps its font list: it takes seconds to make, so it is made once."""
    return tmp_path_factory.mktemp("matplotlib")


@pytest.fixture(scope="session")
def _temporary_root():
    """A folder with a short path: a socket path takes 107 characters at most; `multiprocessing` makes one in it."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch, _fonts, _temporary_root):
    """No variable of an earlier test reaches this one, and everything it writes is below `tmp_path`, or temporary."""
    home = tmp_path / "home"
    home.mkdir()
    places = {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home, "MPLCONFIGDIR": _fonts}
    places |= {f"WANDB_{kind}": home for kind in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR")}
    places |= {"TRACELET_DIR": tmp_path / "runs", "CLEARML_CACHE_DIR": home / "clearml"}
    places |= {"TRACKIO_DIR": tmp_path / "trackio"}
    temporary = tempfile.mkdtemp(prefix="", dir=_temporary_root)
    places |= {"TMPDIR": temporary}
    monkeypatch.setattr(tempfile, "tempdir", temporary)
    for name, path in places.items():
        monkeypatch.setenv(name, str(path))
    monkeypatch.setenv("TRACELET_COLLECT", "none")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB__SAVE_REQUIREMENTS", "false")  # reading all packages' metadata takes most of its start
    os.environ.pop("WANDB_SERVICE", None)  # the wandb of an earlier test tells its own children by it
    monkeypatch.setenv("CLEARML_OFFLINE_MODE", "1")
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
    os.environ.pop("TRACELET_RANK_PROCESS", None)  # of a run that the test started as a rank
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
