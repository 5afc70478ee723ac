"""start_logging and stop_logging: what they promise, and every sentence that tells a user what to do."""

import atexit
import gc
import math
import os
import re
import signal
import sys
import threading
import weakref
from pathlib import Path

import msgspec
import pytest
from backends.faults import Faulty, journalled, values
from programs import csv_values, run_program
from support import our_threads

import tracelet
from tracelet import api
from tracelet.backends import _registered
from tracelet.backends.base import Backend
from tracelet.backends.memory import MemoryBackend
from tracelet.journal.store import Journal, JournalReader

SECRET = "sk-0123456789-very-secret"


class Keyed(MemoryBackend):
    """A backend with keys of its own, among them a credential."""

    name = "keyed"

    class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        api_key: str | None = None
        backend_url: str | None = None
        entity: str | None = None
        level: int = 1


@pytest.fixture(autouse=True)
def registry():
    """What a test registers is forgotten after it."""
    before = dict(_registered)
    tracelet.register_backend("keyed", Keyed)
    yield
    _registered.clear()
    _registered.update(before)


def runs():
    return sorted(Path(os.environ["TRACELET_DIR"]).glob("*/*/journal.db"))


def message(error, function, *args, **kwargs):
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# What is refused, on the user's line, and leaves nothing behind.


def assert_refused(error, *words, **arguments):
    told = message(error, tracelet.start_logging, **arguments)
    for word in words:
        assert word in told
    assert [] == runs() == our_threads()
    assert None is tracelet.get_active_experiment()


def test_an_unknown_backend_lists_the_known():
    assert_refused(tracelet.UnknownBackend, "'nowhere'", "csv", "memory", "wandb", "keyed", backend="nowhere")


def test_every_error_is_a_tracelet_error():
    """One `except` catches all; and each is the built-in error that it resembles."""
    assert_refused(tracelet.TraceletError, backend="nonsense")
    assert_refused(ValueError, backend="nonsense")
    assert issubclass(tracelet.MissingDependency, ImportError)
    assert issubclass(tracelet.RunNotFound, LookupError)


def test_a_missing_package_says_how_to_install_it():
    """The pip line is in the message, and nothing was begun."""
    source = """
        import importlib.abc, os, sys

        from importlib.machinery import PathFinder

        # As on a machine without it: no folder of the path shows the package.
        class Rest(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                return None if name.partition(".")[0] == "wandb" else PathFinder.find_spec(name, path, target)

        sys.meta_path[:] = [Rest() if finder is PathFinder else finder for finder in sys.meta_path]
        import tracelet

        try:
            tracelet.start_logging(backend="wandb")
        except tracelet.MissingDependency as error:
            print(error)
        assert not os.path.exists(os.environ["TRACELET_DIR"])
    """
    ended = run_program(source)
    assert 0 == ended.returncode, ended.err
    assert "pip install 'tracelet[wandb]'" in ended.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"backend": "wandv"}, ["unknown backend 'wandv'. Did you mean wandb?"]),
        ({"backend": "keyed", "config": {"entitty": "x"}}, ["'entitty'. Did you mean entity?"]),
        ({"backend": "keyed", "config": {"colour": "x"}}, ["'colour'. Known: api_key, backend_url, entity, level"]),
        ({"backend": "keyed", "config": {"level": "high"}}, ["keyed", "level"]),
        ({"backend": "keyed", "config": ["entity"]}, ["config must be a dict, got list"]),
        ({"backend": "keyed,csv", "config": {"entity": "x"}}, ["'entity'", "keyed, csv", "tags", "notes", "group"]),
        ({"backend": "keyed,csv", "config": {"keyed": 5}}, ["config['keyed']", "dict"]),
        ({"backend": "keyed,csv", "config": {"wandb": {}}}, ["'wandb'", "keyed, csv"]),
        ({"config": {"entity": "x"}}, ["'entity'", "none"]),
        ({"backend": "keyed,csv", "api_key": SECRET}, ["api_key needs exactly one backend", "config="]),
        ({"backend": "keyed,csv", "backend_url": "http://x"}, ["backend_url needs exactly one backend", "config="]),
        ({"backend": "csv", "api_key": SECRET}, ["the csv backend does not accept api_key", "TRACELET_API_KEY"]),
        ({"backend": "csv", "backend_url": "http://x"}, ["the csv backend does not accept backend_url"]),
        ({"backend": "keyed,csv", "config": {"tgas": ["a"]}}, ["'tgas'", "Did you mean tags?"]),
        ({"backend": ["csv", "csv,keyed"]}, ["csv", "twice"]),
        ({"backend": 5}, ["names and Backend objects", "5"]),
        ({"backend": [5]}, ["names and Backend objects", "5"]),
        ({"mode": "ofline"}, ["ofline"]),
        ({"run_id": "../up"}, ["run_id", "'../up'"]),
        ({"run_id": ""}, ["run_id"]),
        ({"config": {"tags": 5}}, ["tags"]),
        ({"config": {"tags": {"a": 1}}}, ["config['tags'] must be a list of tags, got {'a': 1}"]),
        ({"config": {"notes": 5}}, ["config['notes'] must be text, got 5"]),
        ({"tags": [1]}, ["tags"]),
        ({"tags": {"a": 1}}, ["tags must be a list of strings", "got {'a': 1}"]),
        ({"tags": 5}, ["tags must be a list of strings", "got 5"]),
        ({"flush_timeout": "soon"}, ["flush_timeout"]),
        ({"exp_name": 5}, ["exp_name"]),
        ({"name": 5}, ["exp_name"]),
        ({"name": "a", "exp_name": "b"}, ["exp_name and name are the same", "'a'", "'b'", "pass one"]),
        *(
            ({"backend": backend, "config": {"lr": 0.1}}, ["'lr'", "hyper-parameters", "experiment.log_params("])
            for backend in (None, "csv", "csv,memory", "keyed")
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, words):
    """Settings never swallow: each mistake is an error that names it, and what is known instead."""
    assert_refused(tracelet.ConfigurationError, *words, **arguments)


def test_a_run_has_a_name_by_either_word():
    for arguments in ({"exp_name": "a"}, {"name": "a"}, {"name": "a", "exp_name": "a"}):
        with tracelet.start_logging(**arguments) as experiment:
            assert "a" == experiment.name


def test_a_secret_is_in_no_error():
    """An error about a credential does not show it."""
    for arguments in ({"backend": "csv", "api_key": SECRET}, {"backend": "keyed,csv", "api_key": SECRET}):
        assert SECRET not in message(tracelet.ConfigurationError, tracelet.start_logging, **arguments)


def test_only_backends_can_be_registered():
    assert "subclass" in message(tracelet.ConfigurationError, tracelet.register_backend, "mine", dict)
    assert "subclass" in message(tracelet.ConfigurationError, tracelet.register_backend, "mine", MemoryBackend())


def test_a_folder_that_cannot_be_written(tmp_path, caplog):
    """A new run goes on and says so; one that is to be gone on with cannot, and the start says why."""
    (tmp_path / "file").write_bytes(b"")
    tracelet.start_logging(dir=tmp_path / "file").stop()
    assert str(tmp_path / "file") in caplog.text
    assert "Logging continues" in caplog.text

    with tracelet.start_logging(run_id="earlier") as run:
        journal = run.folder / "journal.db"
    journal.write_bytes(b"no database" * 1000)
    assert str(journal) in message(tracelet.JournalError, tracelet.start_logging, run_id="earlier")


def test_a_working_directory_that_was_deleted(tmp_path, monkeypatch):
    """A run whose place is absolute goes on; for another there is none, and the start says so."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    tracelet.start_logging(backend="csv", dir=tmp_path / "here").log_metric("loss", 1.0)
    tracelet.stop_logging()
    assert 1 == len(list((tmp_path / "here").glob("*/*/csv/scalars.csv")))
    told = message(tracelet.ConfigurationError, tracelet.start_logging, dir="runs")
    assert "the working directory was deleted: dir must be absolute, got 'runs'" == told


@pytest.mark.parametrize("key", ["flush_timeout", "connect_timeout", "system_interval"])
def test_a_run_that_may_wait_without_end(key):
    """Infinity is waited with as any number is: nothing is lost, and the start and the end raise nothing."""
    experiment = tracelet.start_logging(backend="csv", collect=["system"], **{key: math.inf})
    experiment.log_metric("loss", 1.0)
    assert experiment.flush(math.inf)
    tracelet.stop_logging(math.inf)
    assert 0 == experiment.stats().backends["csv"].pending
    assert {} == experiment.stats().causes
    assert [1.0] == csv_values(experiment.folder)


def test_a_wait_that_is_no_number():
    """Refused before anything of the end has begun."""
    experiment = tracelet.start_logging()
    for wait in (experiment.flush, experiment.stop, tracelet.stop_logging):
        assert "got nan" in message(tracelet.ConfigurationError, wait, math.nan)
    assert experiment is tracelet.get_active_experiment()


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        ("logging.basicConfig(level=logging.ERROR)", [True, True]),
        ("logging.basicConfig(level=logging.WARNING)", [True, True]),
        ("logging.basicConfig(level=logging.ERROR); logging.getLogger('tracelet').setLevel('ERROR')", [False, False]),
    ],
)
def test_trouble_is_told_where_the_program_lets_errors_alone_through(setup, expected):
    """A library may have set the root's level. A level that was set for us is another thing, and stays."""
    source = f"""
        import logging
        {setup}
        import tracelet
        tracelet.start_logging(backend="csv", mode="offline").log_metric("loss", 1.0)
    """
    ended = run_program(source)
    assert (0, "") == (ended.returncode, ended.out)
    assert expected == ["1 pending" in ended.err, "tracelet sync" in ended.err], ended.err
    assert "new run" not in ended.err


def test_a_name_is_not_empty(records, lib, tmp_path):
    """Of a series, or of a parameter, in the run's own calls. What a SummaryWriter takes is taken."""
    run = tracelet.get_active_experiment()
    calls = [
        (run.log_metric, "", 1.0),
        (run.log_metrics, {"": 1.0}),
        (run.log_params, {"": 1.0}),
        (run.log_text, "", "x"),
        (run.log_histogram, "", [1.0]),
    ]
    for call, *arguments in calls:
        assert "empty" in message(tracelet.TraceletError, call, *arguments)
    assert [] == records()
    with lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_scalar("", 0.5, 1)
    assert [0.5] == values(records())


def test_resume_says_what_is_meant():
    """True needs a run to go on with, False refuses one, and nothing said takes either."""
    assert "run_id" in message(tracelet.ConfigurationError, tracelet.start_logging, resume=True)
    assert "'mine'" in message(tracelet.RunNotFound, tracelet.start_logging, run_id="mine", resume=True)
    tracelet.start_logging(run_id="mine", resume=False).stop()
    assert "'mine'" in message(tracelet.ConfigurationError, tracelet.start_logging, run_id="mine", resume=False)
    tracelet.start_logging(run_id="mine", resume=True).stop()
    tracelet.start_logging(run_id="mine").stop()


@pytest.mark.parametrize("key", ["flush_timeout", "connect_timeout", "queue_timeout", "queue_bytes"])
def test_a_limit_is_not_negative(key, monkeypatch):
    """Said at once, with the name of the setting."""
    monkeypatch.setenv(f"TRACELET_{key.upper()}", "-1")
    assert key in message(tracelet.ConfigurationError, tracelet.start_logging)


def test_a_run_that_lives_is_not_opened_twice():
    """A second process that names the same run is refused."""
    experiment = tracelet.start_logging()
    ended = run_program(
        "import sys, tracelet\n"
        "try:\n    tracelet.start_logging(run_id=sys.argv[1])\n"
        "except tracelet.RunInUse as error:\n    print(error)",
        experiment.run_id,
    )
    assert "another process writes the run" in ended.out
    experiment.log_metric("loss", 1, 1)
    assert experiment.flush(10)


def test_an_unknown_backend_of_a_run_is_named():
    """`get_backend` knows the run's own backends."""
    experiment = tracelet.start_logging(backend="memory")
    assert "Backends: memory" in message(tracelet.UnknownBackend, experiment.get_backend, "wandb")


# Backends and their config.


def test_config_is_flat_for_one_backend():
    experiment = tracelet.start_logging(backend="keyed", config={"entity": "us", "level": 2, "tags": ["a"]})
    assert ("us", 2) == (experiment.get_backend("keyed").config.entity, experiment.get_backend("keyed").config.level)
    assert ("a",) == experiment.get_backend("keyed").run.tags


def test_config_may_be_keyed_for_one_backend():
    experiment = tracelet.start_logging(backend="keyed", config={"keyed": {"entity": "us"}, "notes": "a note"})
    assert "us" == experiment.get_backend("keyed").config.entity
    assert "a note" == experiment.get_backend("keyed").run.notes


def test_config_is_keyed_for_several_backends(tmp_path):
    config = {"keyed": {"level": 3}, "csv": {"dir": str(tmp_path / "plain")}, "group": "g", "tags": "a, b"}
    experiment = tracelet.start_logging(backend=["keyed", "csv"], config=config, tags=["first"])
    experiment.log_metric("loss", 1, 1)
    experiment.stop()
    assert 3 == experiment.get_backend("keyed").config.level
    assert (tmp_path / "plain" / "scalars.csv").is_file()
    assert ("g", ("first", "a", "b")) == (
        experiment.get_backend("keyed").run.group,
        experiment.get_backend("keyed").run.tags,
    )


def test_credentials_reach_the_one_backend():
    experiment = tracelet.start_logging(backend="keyed", api_key=SECRET, backend_url="http://here")
    config = experiment.get_backend("keyed").config
    assert (SECRET, "http://here") == (config.api_key, config.backend_url)


def test_the_backends_own_key_wins():
    """What stands in `config` is more exact than the argument beside it."""
    experiment = tracelet.start_logging(backend="keyed", api_key="other", config={"api_key": SECRET})
    assert SECRET == experiment.get_backend("keyed").config.api_key


def test_several_ways_to_name_backends():
    """A comma list, a list, objects beside names: one copy of the run each."""
    mine = Faulty()
    experiment = tracelet.start_logging(backend=["memory, csv", mine])
    experiment.log_metric("loss", 1, 1)
    assert experiment.flush(10)
    assert {"memory", "csv", "faulty"} == set(experiment.stats().backends)
    assert [1] == values(mine.records) == values(experiment.get_backend("memory").records)


def test_a_registered_backend_is_known_and_may_be_replaced():
    class Other(MemoryBackend):
        name = "keyed"

    assert "keyed" in tracelet.known_backends()
    tracelet.register_backend("keyed", Other)
    assert isinstance(tracelet.start_logging(backend="keyed").get_backend("keyed"), Other)


def test_an_installed_package_can_bring_a_backend(tmp_path):
    """The entry point `tracelet.backends` of any distribution is a backend's name."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "shelf_backend.py").write_text(
        "import tracelet\n"
        "class Shelf(tracelet.Backend):\n"
        "    name = 'shelf'\n"
        "    def open(self, run): pass\n"
        "    def write(self, batch): print('shelved', len(batch), flush=True)\n"
    )
    info = tmp_path / "site" / "shelf_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tracelet.backends]\nshelf = shelf_backend:Shelf\n")
    source = """
        import sys, tracelet

        assert "shelf" in tracelet.known_backends()
        assert "shelf_backend" not in sys.modules
        tracelet.start_logging(backend="shelf").log_metric("loss", 1, 1)
    """
    ended = run_program(source, PYTHONPATH=str(tmp_path / "site"))
    assert "shelved 1\n" == ended.out, ended.err


def test_the_url_is_known_after_the_end():
    """A vendor forgets the page with the run; who looks at the run then wants it all the more."""

    class Paged(MemoryBackend):
        name = "paged"
        page = None

        def open(self, run):
            super().open(run)
            self.page = f"https://example.org/{run.run_id}"

        def close(self, status, exit_code):
            super().close(status, exit_code)
            self.page = None

        @property
        def url(self):
            return self.page

    with tracelet.start_logging(backend=Paged(), run_id="r1") as experiment:
        experiment.log_metric("loss", 1.0)
    assert "https://example.org/r1" == experiment.url


def test_the_url_of_a_broken_backend_is_none(swallowed):
    """A backend whose `url` raises does not stop the start."""

    class Lost(MemoryBackend):
        name = "lost"

        @property
        def url(self):
            raise ValueError("no page")

    with tracelet.start_logging(backend=Lost()) as experiment:
        assert None is experiment.url
    swallowed.clear()


# Modes.


def test_offline_wins_and_touches_no_vendor():
    """`mode="offline"`: the journal alone; no vendor is imported, no socket is made; a later start delivers."""
    source = """
        import socket, sys

        class Forbidden(socket.socket):
            def __init__(self, *args, **kwargs):
                raise AssertionError("a socket was made")

        socket.socket = Forbidden
        import tracelet

        experiment = tracelet.start_logging(
            "name", "project", backend="wandb,csv", mode="offline", config={"wandb": {"mode": "online"}}
        )
        experiment.log_metric("loss", 0.5, 1)
        experiment.log_image("picture", [[0.0, 1.0]], dataformats="HW")
        experiment.stop()
        assert {"wandb", "mlflow", "clearml", "aim", "torch"}.isdisjoint(sys.modules), sys.modules.keys()
        assert not (experiment.folder / "csv").exists()
        print(experiment.folder)
    """
    ended = run_program(source, fresh=True)
    assert 0 == ended.returncode, ended.err
    folder = Path(ended.out.strip())
    assert ["scalar", "image"] == [record.__struct_config__.tag for record in journalled(folder)]
    with JournalReader(folder) as reader:
        assert {"wandb": 0, "csv": 0} == {name: cursor.position for name, cursor in reader.cursors().items()}
    memory = MemoryBackend()
    tracelet.start_logging(run_id=folder.name, backend=memory).flush(10)
    assert 2 == len(memory.records)


def test_disabled_does_nothing():
    """`mode="disabled"`: no folder, no thread, no record; every method may be called."""
    before = threading.active_count()
    experiment = tracelet.start_logging(backend="csv", mode="disabled")
    experiment.log_metric("loss", 1, 1)
    experiment.log_params({"lr": 1})
    experiment.log_artifact("/no/such/file")
    assert experiment.flush(1)
    assert (0, {}) == (experiment.stats().submitted, experiment.stats().backends)
    assert None is tracelet.get_active_experiment()
    with experiment:
        pass
    assert before == threading.active_count()
    assert not Path(os.environ["TRACELET_DIR"]).exists()


def test_importing_is_light():
    """`import tracelet` brings neither torch nor tensorboard nor numpy nor a vendor."""
    source = """
        import sys, tracelet
        heavy = {"torch", "tensorboard", "tensorboardX", "numpy", "PIL", "rich", "typer"}
        heavy |= {"wandb", "mlflow", "clearml", "aim"}
        print(sorted(heavy & set(sys.modules)))
    """
    assert "[]\n" == run_program(source, fresh=True).out


# One run at a time.


@pytest.mark.parametrize("resume", [None, True, False])
@pytest.mark.parametrize("left", ["an empty file", "empty tables"])
def test_a_run_that_never_began_is_begun_again(tmp_path, left, resume):
    """A start on a full disk, or a kill in the first moment, leaves a journal that holds nothing: no id is lost by it,
    and the folder stays the only one of that id."""
    folder = tmp_path / "runs" / "default" / "night"
    folder.mkdir(parents=True)
    if left == "an empty file":
        (folder / "journal.db").touch()
    else:
        Journal(folder).close()
    with tracelet.start_logging(project="other", run_id="night", resume=resume) as experiment:
        experiment.log_metric("loss", 1.0, 1)
    assert (folder, 1) == (experiment.folder, experiment.stats().submitted)
    with tracelet.start_logging(run_id="night", resume=True) as experiment:
        experiment.log_metric("loss", 2.0, 2)
    with JournalReader(folder) as reader:
        assert [1.0, 2.0] == [record.value for record in reader.records()]
        assert ("other", "finished") == (reader.info().project, reader.facts()["status"])


def test_start_stops_the_run_before():
    """Two starts are two runs; the first is delivered and ended."""
    first, second = MemoryBackend(), MemoryBackend()
    one = tracelet.start_logging(backend=first)
    one.log_metric("loss", 1, 1)
    two = tracelet.start_logging(backend=second)
    one.log_metric("loss", 2, 2)
    two.log_metric("loss", 3, 3)
    assert two.flush(10)
    assert "finished" == first.status
    assert ([1], [3]) == (values(first.records), values(second.records))
    assert two is tracelet.get_active_experiment()
    assert one.run_id != two.run_id


def test_a_sweep_makes_a_run_for_each_turn():
    """A sweep in a loop: three learning rates, three runs in one group, nothing mixed."""
    for lr in (0.1, 0.01, 0.001):
        experiment = tracelet.start_logging(f"lr={lr}", "sweep", backend="csv", config={"group": "lrs"})
        experiment.log_params({"lr": lr})
        for step in range(10):
            experiment.log_metric("loss", lr * step, step)
        tracelet.stop_logging()
    assert 3 == len(runs())
    left = {0.1, 0.01, 0.001}
    for path in runs():
        params, *scalars = journalled(path.parent)
        left.remove(lr := params.values["lr"])
        with JournalReader(path.parent) as reader:
            info = reader.info()
        assert ("sweep", "lrs", f"lr={lr}") == (info.project, info.group, info.name)
        assert [lr * step for step in range(10)] == values(scalars)


@pytest.mark.parametrize("is_worker", [False, True])
def test_cycles_leave_nothing_behind(is_worker, monkeypatch):
    """Fifty runs, also in a process of multiprocessing: no thread is left, and no experiment is kept alive."""
    if is_worker:
        monkeypatch.setitem(sys.modules, "__mp_main__", sys.modules["__main__"])
    alive = weakref.WeakSet()
    for _ in range(50):
        alive.add(tracelet.start_logging(mode="offline"))
        tracelet.stop_logging()
    gc.collect()
    assert [] == our_threads()
    assert len(alive) <= 1


def test_runs_that_overlap_leave_nothing_behind():
    """The first to begin ends first, as often as one likes: no hook of an ended run stays in the process."""
    before = (atexit.register, sys.exit, signal.getsignal(signal.SIGTERM))
    alive = weakref.WeakSet()
    for _ in range(3):
        first = tracelet.start_logging(mode="offline")
        with api.beside_active_run():
            second = tracelet.start_logging(mode="offline")
        alive.update((first, second))
        first.stop()
        second.stop()
    assert before == (atexit.register, sys.exit, signal.getsignal(signal.SIGTERM))
    del first, second
    gc.collect()
    assert 0 == len(alive)


def test_stop_without_a_run_is_harmless():
    tracelet.stop_logging()
    tracelet.stop_logging(timeout=0)


def test_a_run_can_be_named_and_continued():
    """`run_id` of a new run is its id; of one that is there, it goes on, with its own name and project."""
    first = tracelet.start_logging("name", "project", run_id="my-run")
    assert ("my-run", "my-run") == (first.run_id, first.folder.name)
    first.log_metric("loss", 1, 1)
    first.stop()
    again = tracelet.start_logging(run_id="my-run")
    assert ("name", "project", first.folder) == (again.name, again.project, again.folder)
    again.log_metric("loss", 2, 2)
    again.stop()
    assert [1, 2] == values(journalled(first.folder))


# Secrets.


def test_a_credential_is_nowhere(caplog):
    """Neither in a file of the run, nor in a repr, nor in the log."""
    caplog.set_level("DEBUG")
    experiment = tracelet.start_logging(backend=["keyed"], api_key=SECRET)
    experiment.log_metric("loss", 1, 1)
    shown = repr(experiment) + repr(experiment.stats()) + repr(experiment._settings)
    experiment.stop()
    assert SECRET not in shown
    assert SECRET not in caplog.text
    for path in Path(os.environ["TRACELET_DIR"]).rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes()


def test_repr_says_the_run_and_its_state():
    experiment = tracelet.start_logging(backend="memory", run_id="r1")
    assert "<tracelet run r1 (running), backends: memory>" == repr(experiment)
    experiment.stop()
    assert "<tracelet run r1 (stopped), backends: memory>" == repr(experiment)


def test_a_run_id_says_when_and_sorts():
    ids = [tracelet.start_logging(mode="offline").run_id for _ in range(2)]
    for run_id in ids:
        assert re.fullmatch(r"\d{8}-\d{6}-[a-z0-9]{6}", run_id)


def test_public_names_are_sorted_and_there():
    """`__all__` is what is there, in order."""
    assert sorted(tracelet.__all__) == tracelet.__all__
    assert all(hasattr(tracelet, name) for name in tracelet.__all__)
    assert issubclass(MemoryBackend, Backend)


def test_words_that_utf8_has_no_bytes_for():
    """As a file name that is not UTF-8 gives them: they are told as the names of series are."""
    word = "a\udcff"
    with tracelet.start_logging(word, project=word, tags=[word], notes=word, group=word, backend="csv") as experiment:
        experiment.log_metric("loss", 1.0)
    with JournalReader(experiment.folder) as reader:
        info = reader.info()
    assert {"a\\udcff"} == {info.name, info.project, info.notes, info.group, *info.tags}
    assert 1 == experiment.stats().backends["csv"].delivered
