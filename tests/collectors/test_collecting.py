"""The thread that collects: what every backend gets of it, when it works, and that nothing waits for it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from backends.csv_store import stored
from programs import DEADLINE, run_program, the_run
from repositories import Repository, hanging_git, is_running, until
from support import our_threads
from typer.testing import CliRunner

import tracelet
from tracelet.backends.memory import MemoryBackend
from tracelet.cli import app
from tracelet.errors import ConfigurationError
from tracelet.journal.store import JournalReader
from tracelet.records import Artifact, Params, Scalar
from tracelet.runs import export as plain
from tracelet.runs import format as words
from tracelet.runs import report
from tracelet.sync import deliver

USUAL = {"environment.json", "git.json"}


@pytest.fixture
def here(repository, monkeypatch):
    """The working directory is a repository, and there is no main script, as in a notebook."""
    monkeypatch.chdir(repository.folder)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    return repository


@pytest.fixture
def begun(memory):
    """`begun(what, ...)`: a run that has collected the artifacts `what`."""

    def begin(what=USUAL, backend=memory, **arguments):
        experiment = tracelet.start_logging(backend=backend, **arguments)
        until(lambda: what <= artifacts_of(experiment), what)
        return experiment

    return begin


def artifacts_of(experiment):
    with JournalReader(experiment.folder) as reader:
        return {one.name for one in reader.records() if isinstance(one, Artifact)}


def facts_of(experiment):
    with JournalReader(experiment.folder) as reader:
        return reader.facts()


def file_of(memory, name):
    (found,) = [one for one in memory.of(Artifact) if one.name == name]
    return memory.data(found.files[0])


def test_every_backend_has_it(here, begun, memory):
    """Two small files, some curves, and facts of the run; no parameters."""
    here.git("remote", "add", "origin", "https://jane:pass-word-1@example.com/a.git")
    experiment = begun(backend=[memory, "csv"])
    experiment.log_params({"lr": 0.1})
    experiment.stop()

    told = json.loads(file_of(memory, "git.json"))
    assert {"commit": here.head, "branch": "main", "dirty": False, "remote": "https://example.com/a.git"} == told
    environment = json.loads(file_of(memory, "environment.json"))
    assert f"{sys.version_info.major}.{sys.version_info.minor}." in environment["python"]
    facts = facts_of(experiment)
    assert (told, environment) == (facts["git"], facts["environment"])

    held = stored(experiment.folder / "csv")
    assert {name: file_of(memory, name) for name in USUAL} == held.artifacts
    curves = {tag for tag, *_ in held.scalars}
    assert {"system/cpu_percent", "system/process_memory_bytes", "system/disk_bytes"} <= curves
    assert [] == [tag for tag in curves if not tag.startswith("system/")]
    assert {"lr": 0.1} == held.params
    assert [{"lr": 0.1}] == [one.values for one in memory.of(Params)]
    stats = experiment.stats()
    assert {} == stats.causes
    assert {(len(memory.records), 0)} == {(one.delivered, one.pending) for one in stats.backends.values()}


def test_it_is_shown(here, begun):
    """In the terminal, and as JSON."""
    here.write("train.py", "print(3)\n")
    experiment = begun()
    experiment.stop()
    found = report.read(experiment.folder)
    assert f"{here.head[:12]} on main, with uncommitted changes" == words.commit(found.git)
    told = plain.of_run(found)
    assert (here.head, experiment.stats().submitted) == (told["git"]["commit"], told["records"])
    shown = CliRunner().invoke(app, ["show", str(experiment.folder)], env={"COLUMNS": "200"}).stdout
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert f"{here.head[:12]} on main, with uncommitted changes" in lines["commit"]
    assert f"{os.cpu_count()} CPUs" in lines["machine"]


def test_a_process_for_delivery_has_it_too(here):
    experiment = tracelet.start_logging(backend="csv", delivery="process")
    until(lambda: USUAL <= artifacts_of(experiment), USUAL)
    experiment.stop()
    held = stored(experiment.folder / "csv")
    assert set(held.artifacts) == USUAL
    assert "system/cpu_percent" in {tag for tag, *_ in held.scalars}


@pytest.mark.parametrize(
    ("collect", "expected"),
    [
        (["environment"], {"environment.json"}),
        ("git", {"git.json"}),
        ({"git-diff"}, {"git.diff"}),
        (("git", "git-diff"), {"git.json", "git.diff"}),
        (True, USUAL),
        (None, USUAL),
    ],
)
def test_choosing(here, begun, memory, collect, expected):
    here.write("train.py", "print(2)\n")
    begun(expected, collect=collect).stop()
    assert expected == {one.name for one in memory.of(Artifact)}
    assert bool(memory.of(Scalar)) == (collect in (True, None))


@pytest.mark.parametrize("nothing", [False, [], "none"])
def test_nothing_is_nothing(here, memory, nothing):
    """No record and no thread."""
    experiment = tracelet.start_logging(backend=memory, collect=nothing)
    assert "tracelet-collect" not in our_threads()
    experiment.stop()
    assert [] == memory.records


@pytest.mark.parametrize("wrong", ["gti", ["git", "memory"], 5, [3]])
def test_an_unknown_name_is_an_error(wrong):
    with pytest.raises(ConfigurationError, match="environment, git, git-diff, system, console, or none"):
        tracelet.start_logging(collect=wrong)
    assert tracelet.get_active_experiment() is None


def test_a_file_of_settings(here, memory):
    Path("tracelet.toml").write_text("collect = false\nsystem_interval = 3\n")
    tracelet.start_logging(backend=memory).stop()
    assert [] == memory.records


def test_disabled_collects_nothing(here):
    tracelet.start_logging(mode="disabled", collect=["git", "console", "system"])
    assert [] == our_threads()


# The clock.


def test_samples_on_the_clock(memory):
    """Steps are the run's age in whole seconds; wall times are those of the samples."""
    experiment = tracelet.start_logging(backend=memory, collect="system", system_interval=0.05)
    began = experiment._info.created

    def samples():
        experiment.flush(DEADLINE)
        return [one for one in memory.of(Scalar) if one.tag == "system/memory_percent"]

    until(lambda: len(samples()) >= 5, "five samples")
    experiment.stop()
    found = samples()
    assert sorted({one.wall_time for one in found}) == [one.wall_time for one in found]
    assert [int(one.wall_time - began) for one in found] == [one.step for one in found]


def test_a_short_run_has_one_sample(memory):
    tracelet.start_logging(backend=memory, collect="system", system_interval=3600).stop()
    assert 1 == [one.tag for one in memory.of(Scalar)].count("system/memory_percent")


def test_a_series_of_that_name_is_its_programs(memory):
    """Two series never share a name."""
    experiment = tracelet.start_logging(backend=memory, collect="system")
    experiment.log_metric("system/memory_percent", -1.0, 5)
    experiment.stop()
    assert [(-1.0, 5)] == [(one.value, one.step) for one in memory.of(Scalar) if one.tag == "system/memory_percent"]
    assert 1 == [one.tag for one in memory.of(Scalar)].count(".//system/memory_percent")


# Whose run it is.


def test_the_folder_is_that_of_the_main_script(repository, tmp_path):
    """Wherever it is called from."""
    script = repository.write(
        "deep/train.py", "import tracelet\nwith tracelet.start_logging(backend='csv', collect='git'):\n    pass\n"
    )
    subprocess.run([sys.executable, str(script)], cwd=tmp_path, timeout=DEADLINE, check=True, capture_output=True)
    with JournalReader(the_run()) as reader:
        assert repository.head == reader.facts()["git"]["commit"]


def test_a_run_that_is_only_opened_is_not_collected_for(here, begun, memory):
    """It keeps its status and its records; once something is logged in it, it is collected for again."""
    first = begun(run_id="one")
    first.stop(status="failed", exit_code=3)
    count = first.stats().submitted
    again = tracelet.start_logging(run_id="one", resume=True, backend=memory)
    again.stop()
    assert (count, "failed", 3) == (again.stats().submitted, facts_of(again)["status"], facts_of(again)["exit_code"])
    third = MemoryBackend()
    more = tracelet.start_logging(run_id="one", resume=True, backend=third)
    more.log_metric("loss", 1.0)
    until(lambda: sum(one.name == "git.json" for one in journalled(more)) == 2, "git.json again")
    more.stop()
    assert "finished" == facts_of(more)["status"]


def journalled(experiment):
    with JournalReader(experiment.folder) as reader:
        return [one for one in reader.records() if isinstance(one, Artifact)]


def test_sync_collects_nothing(here, begun):
    experiment = begun(backend="csv", mode="offline")
    experiment.stop()
    synced = deliver(experiment.folder)
    assert [(experiment.stats().submitted, 0)] == [(one.delivered, one.pending) for one in synced.backends]
    with JournalReader(experiment.folder) as reader:
        assert experiment.stats().submitted == reader.last()


def test_a_forked_child_collects_nothing(memory, here):
    source = """
        import os, threading, tracelet
        run = tracelet.start_logging(collect="system", system_interval=0.05)
        child = os.fork()
        if child == 0:
            os._exit(len([one for one in threading.enumerate() if one.name.startswith("tracelet")]))
        assert (child, 0) == os.waitpid(child, 0)
        run.stop()
    """
    ended = run_program(source)
    assert 0 == ended.returncode, ended.err


# Trust.


def test_credentials_are_nowhere(tmp_path, here):
    """Not in a byte of the run's folder: of the remote, of the command line, of the environment, of a changed file."""
    here.git("remote", "add", "origin", "https://jane:pass-word-1@example.com/a.git?token=tok-en-22")
    here.write("train.py", "url = 'https://jane:pass-word-1@example.com/a.git'\n")
    source = """
        import sys, tracelet
        run = tracelet.start_logging(backend="csv", collect="environment,git,git-diff,system,console")
        while not all((run.folder / "csv" / "artifacts" / name).exists() for name in ("environment.json", "git.diff")):
            run.flush(60)
    """
    arguments = ("--api-key", "ar-gu-ment-3", "--password=ar-gu-ment-4", "--lr", "0.1")
    ended = run_program(source, *arguments, MY_TOKEN="var-iable-5", WANDB_API_KEY="var-iable-6")
    assert 0 == ended.returncode, ended.err
    everything = {path: path.read_bytes() for path in the_run().rglob("*") if path.is_file()}
    for secret in ("pass-word-1", "tok-en-22", "ar-gu-ment-3", "ar-gu-ment-4", "var-iable-5", "var-iable-6"):
        assert [] == [path for path, data in everything.items() if secret.encode() in data]
    assert any(b"+url = 'https://jane:***@example.com/a.git'" in data for data in everything.values())
    with JournalReader(the_run()) as reader:
        facts = reader.facts()
    assert ["--api-key", "***", "--password=***", "--lr", "0.1"] == facts["environment"]["argv"][1:]
    assert "https://example.com/a.git" == facts["git"]["remote"]


def test_files_are_private(begun):
    experiment = begun({"environment.json"}, collect="environment,console")
    print("x")
    experiment.stop()
    assert 0o600 == (experiment.folder / "console.log").stat().st_mode & 0o777


# Nothing is disturbed.


def test_a_git_that_hangs_delays_nothing(here, tmp_path, monkeypatch, memory):
    """start returns while git has just begun; stop ends it; all that the program said is delivered."""
    numbers = hanging_git(tmp_path / "bin", monkeypatch)
    experiment = tracelet.start_logging(backend=memory)
    pids = until(lambda: numbers.exists() and numbers.read_text().split(), "git to begin")
    assert all(map(is_running, pids))
    experiment.log_metric("loss", 1.0)
    experiment.stop()
    until(lambda: not any(map(is_running, pids)), "git to be ended")
    until(lambda: [] == our_threads(), "no thread")
    assert "loss" in [one.tag for one in memory.of(Scalar)]
    assert {"environment.json"} == {one.name for one in memory.of(Artifact)}
    assert {} == experiment.stats().causes


def test_an_end_without_patience(here, tmp_path, monkeypatch, memory):
    """`stop(timeout=0)` does not leave git behind, either."""
    numbers = hanging_git(tmp_path / "bin", monkeypatch)
    experiment = tracelet.start_logging(backend=memory, collect="git")
    pids = until(lambda: numbers.exists() and numbers.read_text().split(), "git to begin")
    experiment.stop(timeout=0)
    until(lambda: not any(map(is_running, pids)), "git to be ended")
    until(lambda: [] == our_threads(), "no thread")


def test_a_collector_that_fails_says_so_once(here, begun, memory, monkeypatch, swallowed, caplog):
    """The others, and the run, go on."""

    def fails():
        raise ValueError("no environment today")

    monkeypatch.setattr("tracelet.collectors.environment.read", fails)
    experiment = begun({"git.json"}, system_interval=0.05)
    until(lambda: experiment.flush(DEADLINE) and memory.of(Scalar), "a sample")
    experiment.stop()
    assert ["no environment today"] == [str(one) for one in swallowed]
    swallowed.clear()
    assert {"git.json"} == {one.name for one in memory.of(Artifact)}
    assert 1 == caplog.text.count("no environment today (training is not affected")


def test_a_figure_that_fails_later_hides_no_other(memory, monkeypatch, swallowed, caplog):
    experiment = tracelet.start_logging(backend=memory, collect="system", system_interval=0.05)

    def samples():
        experiment.flush(DEADLINE)
        return len([one for one in memory.of(Scalar) if one.tag == "system/memory_percent"])

    until(samples, "a sample")

    def fails(folder):
        raise OSError("the disk is gone")

    monkeypatch.setattr("psutil.disk_usage", fails)
    until(lambda: len(swallowed) > 2, "three failures")
    before = samples()
    until(lambda: samples() > before, "another sample")
    experiment.stop()
    assert {"the disk is gone"} == {str(one) for one in swallowed}
    swallowed.clear()
    assert 1 == caplog.text.count("the disk is gone (training is not affected")


def test_importing_tracelet_imports_no_collector():
    """psutil, and what reads packages and git, are the thread's."""
    source = """
        import sys, tracelet
        tracelet.start_logging(collect=False).stop()
        found = [name for name in sys.modules if name.startswith(("psutil", "pynvml", "tracelet.collectors."))]
        assert ["tracelet.collectors.base"] == found, found
    """
    ended = run_program(source, fresh=True)
    assert 0 == ended.returncode, ended.err


def test_a_silent_program_stays_silent():
    """Nothing of it is said or warned of, also under `-W error`; the program's exit hooks and streams are its own."""
    source = """
        import sys, tracelet
        before = dict(vars(sys.stdout)), dict(vars(sys.stderr))
        run = tracelet.start_logging(backend="csv", collect="environment,git,git-diff,system,console")
        run.log_metric("loss", 1)
        run.stop()
        assert before == (dict(vars(sys.stdout)), dict(vars(sys.stderr)))
        with tracelet.start_logging(backend="csv", collect="environment,git,git-diff,system,console"):
            pass
    """
    ended = run_program(source, options=("-W", "error", "-X", "dev"))
    assert (0, "") == (ended.returncode, ended.out), ended.err
    assert all(line.startswith("tracelet: ") for line in ended.err.splitlines()), ended.err


def test_children_are_the_programs_own(here):
    """The ends of git's processes are taken by whoever began them: none is left to the program afterwards."""
    source = """
        import os, tracelet
        run = tracelet.start_logging(backend="csv", collect="git,git-diff")
        while not (run.folder / "csv" / "artifacts" / "git.json").exists():
            run.flush(60)
        run.stop()
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print("none")
    """
    ended = run_program(source)
    assert (0, "none\n") == (ended.returncode, ended.out), ended.err


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("tools/env/lib/site-packages/pytest/__main__.py", "repository"),  # python -m pytest
        ("tools/env/bin/pytest", "repository"),  # its console script
        ("tools/train.py", "tools"),
        ("nowhere/train.py", "repository"),
    ],
)
def test_the_commit_is_that_of_the_program(script, expected, here, begun, tmp_path, monkeypatch):
    """Of its file's repository; if the file is of an environment, or in no repository, of the working directory's."""
    heads = {"repository": here.head}
    tools = Repository(tmp_path / "tools")
    tools.write("train.py", "print(2)\n")
    tools.commit()
    heads["tools"] = tools.head
    tools.write("env/pyvenv.cfg", "")
    (tmp_path / script).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / script).write_text("")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / script), raising=False)

    experiment = begun({"git.json"}, collect="git")
    experiment.stop()

    assert heads[expected] == facts_of(experiment)["git"]["commit"]


def test_a_working_directory_that_is_gone(tmp_path, memory, monkeypatch):
    """There is nothing to ask git about; the run begins all the same."""
    (tmp_path / "gone").mkdir()
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    experiment = tracelet.start_logging(backend=memory, dir=tmp_path / "runs", collect="git,system")
    experiment.stop()
    monkeypatch.chdir(tmp_path)
    assert [] == memory.of(Artifact)


def test_sigterm_while_it_collects(here):
    """The program dies of the signal, and the run is killed, with what was collected until then."""
    source = """
        import os, signal, tracelet
        run = tracelet.start_logging(backend="csv")
        os.kill(os.getpid(), signal.SIGTERM)
    """
    ended = run_program(source)
    assert -signal.SIGTERM == ended.returncode
    with JournalReader(the_run()) as reader:
        assert "killed" == reader.facts()["status"]
