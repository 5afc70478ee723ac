"""tracelet.context and tracelet.track: who sets what, for how long, and for which processes."""

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import tracelet
from tracelet import settings
from tracelet.experiment import Experiment
from tracelet.journal.store import JournalReader
from tracelet.runs.folders import all_runs

CHILD = "import tracelet; print(tracelet.start_logging().project)"


def facts(name):
    """The runs of this test with their description and facts, oldest first."""
    found = []
    for folder in all_runs(Path(os.environ["TRACELET_DIR"])):
        with JournalReader(folder) as reader:
            found.append((reader.info(), reader.facts()))
    return [getattr(info, name) for info, _ in sorted(found, key=lambda pair: pair[0].created)]


def statuses():
    found = []
    for folder in all_runs(Path(os.environ["TRACELET_DIR"])):
        with JournalReader(folder) as reader:
            found.append((reader.facts()["status"], reader.facts()["exit_code"]))
    return found


def project():
    return settings.load({}).project


# context


def test_the_order_of_the_sources(tmp_path, monkeypatch):
    """Argument, inner context, outer context, variable, file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tracelet.toml").write_text('project = "file"')
    assert "file" == project()
    monkeypatch.setenv("TRACELET_PROJECT", "variable")
    with tracelet.context(project="outer", tags=["a"]):
        assert "outer" == project()
        with tracelet.context(project="inner"):
            assert ("inner", ("a",)) == (project(), settings.load({}).tags)
            assert "argument" == settings.load({"project": "argument"}).project
        assert "outer" == project()
    assert "variable" == project()


def test_it_is_restored_after_an_exception():
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), tracelet.context(project="inside"):
        1 / 0  # noqa: B018
    assert None is project()
    assert before == dict(os.environ)


@pytest.mark.parametrize("text", ["123", "1e5", "true", "null", "[1]", '{"a": 1}'])
def test_a_text_stays_a_text(text):
    """Also in a child process, where it arrives as JSON."""
    with tracelet.context(project=text):
        assert text == project()
        done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60, check=True)
    assert text == done.stdout.strip()


def test_another_thread_does_not_see_it():
    seen = []
    with tracelet.context(project="this thread"):
        thread = threading.Thread(target=lambda: seen.append(project()))
        thread.start()
        thread.join(10)
    assert [None] == seen


def test_tasks_do_not_see_each_others():
    seen = {}

    async def task(name, other):
        with tracelet.context(project=name):
            await asyncio.sleep(0.01)
            seen[name] = project()

    async def both():
        await asyncio.gather(task("one", "two"), task("two", "one"))

    asyncio.run(both())
    assert {"one": "one", "two": "two"} == seen


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_child_process_inherits_it(method):
    with tracelet.context(project="inherited"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert "inherited" == pool.apply_async(project).get(60)
    assert None is project()


def test_it_is_what_a_run_gets(memory):
    with tracelet.context(name="a run", group="sweep", config={"tags": ["one"], "memory": {}}, tags=["two"]):
        with tracelet.start_logging(backend=memory, notes="mine") as experiment:
            info = experiment._info
    assert ("a run", "sweep", "mine", {"one", "two"}) == (info.name, info.group, info.notes, set(info.tags))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"projekt": "x"}, ("context: unknown argument 'projekt'", "project")),
        ({"mode": "onlin"}, ("mode must be one of online, offline, disabled",)),
        ({"config": {"csv": object()}}, ("plain values only",)),
    ],
)
def test_what_is_refused(arguments, words):
    with pytest.raises(tracelet.ConfigurationError) as caught:
        with tracelet.context(**arguments):
            pytest.fail("the block ran")
    for word in words:
        assert word in str(caught.value)
    assert "TRACELET_CONTEXT" not in os.environ


def test_a_variable_that_is_no_context(monkeypatch):
    monkeypatch.setattr(settings, "_parents_context", "{")
    with pytest.raises(tracelet.ConfigurationError, match="TRACELET_CONTEXT is not a document"):
        settings.load({})


# track


def test_each_call_is_a_run():
    @tracelet.track(project="vision")
    def train(rate, *, steps=2):
        """Docs."""
        experiment = tracelet.get_active_experiment()
        assert isinstance(experiment, Experiment)
        experiment.log_metric("loss", rate, steps)
        return experiment.run_id

    assert ("train", "Docs.") == (train.__name__, train.__doc__)
    ids = [train(0.1), train(0.2, steps=3)]
    assert None is tracelet.get_active_experiment()
    assert (ids, ["vision"] * 2) == (facts("run_id"), facts("project"))
    assert [("finished", 0)] * 2 == statuses()


def test_without_parentheses():
    @tracelet.track
    def train():
        return tracelet.get_active_experiment() is not None

    assert train()


def test_an_exception_fails_the_run():
    @tracelet.track
    def train():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert [("failed", 1)] == statuses()
    assert None is tracelet.get_active_experiment()


def test_an_asynchronous_function():
    @tracelet.track(project="later")
    async def train(fails):
        await asyncio.sleep(0)
        if fails:
            raise ZeroDivisionError
        return tracelet.get_active_experiment().project

    assert "later" == asyncio.run(train(False))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(train(True))
    assert {("finished", 0), ("failed", 1)} == set(statuses())


def test_a_nested_call_uses_the_active_run():
    @tracelet.track(project="inner")
    def step():
        return tracelet.get_active_experiment().run_id

    @tracelet.track(project="outer")
    def train():
        experiment = tracelet.get_active_experiment()
        assert [experiment.run_id] * 2 == [step(), step()]
        assert experiment is tracelet.get_active_experiment()

    train()
    assert ["outer"] == facts("project")


def test_a_method():
    class Trainer:
        @tracelet.track
        def fit(self, value):
            return value

    assert 3 == Trainer().fit(3)


def test_an_argument_of_start_logging_wins_over_the_decorator():
    @tracelet.track(project="decorator", group="decorator")
    def train():
        with tracelet.start_logging(project="argument") as experiment:
            return experiment.project, experiment._info.group

    with tracelet.context(project="context", group="context", notes="context"):
        assert ("argument", "decorator") == train()
    assert {"context"} == set(facts("notes"))


def test_a_generator_is_refused():
    with pytest.raises(tracelet.ConfigurationError, match="is a generator"):

        @tracelet.track
        def train():
            yield 1


def test_the_document_in_the_variable_is_json(monkeypatch):
    with tracelet.context(project="a", config={"csv": {"dir": "out"}}):
        document = json.loads(os.environ["TRACELET_CONTEXT"])
    assert {"values": {"project": "a", "config": {"csv": {"dir": "out"}}}, "variables": {}} == document


def test_a_child_gets_no_credential_and_no_run_id():
    config = {"keyed": {"api_key": "secret-in-config", "level": 2}}
    with tracelet.context(api_key="secret", run_id="night", project="a", config=config):
        assert ("secret", "night") == (settings.load({}).api_key, settings.load({}).run_id)
        values = json.loads(os.environ["TRACELET_CONTEXT"])["values"]
    assert {"project": "a", "config": {"keyed": {"level": 2}}} == values


def test_a_variable_of_the_child_wins(monkeypatch):
    """But not one that it inherits, over which the context won before."""
    monkeypatch.setenv("TRACELET_PROJECT", "variable")
    with tracelet.context(project="context"):
        for environment, expected in (({}, "context"), ({"TRACELET_PROJECT": "child"}, "child")):
            done = subprocess.run(
                [sys.executable, "-c", CHILD],
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            assert expected == done.stdout.strip()


def test_contexts_that_overlap_leave_nothing():
    first, second = tracelet.context(project="first"), tracelet.context(project="second")
    first.__enter__()
    thread = threading.Thread(target=second.__enter__)
    thread.start()
    thread.join(10)
    first.__exit__(None, None, None)
    assert "second" == json.loads(os.environ["TRACELET_CONTEXT"])["values"]["project"]
    with pytest.raises(ValueError, match="different Context"):
        second.__exit__(None, None, None)  # in another thread than its start
    assert "TRACELET_CONTEXT" not in os.environ
