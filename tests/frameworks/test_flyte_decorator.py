"""The runs of Flyte tasks without a cluster: which run a task has, how it ends, and what its stores hold."""

import asyncio
import os

import flyte
import pytest
import wandb
from backends import clearml_store, csv_store, mlflow_store, wandb_store
from flyte.errors import RuntimeUserError
from frameworks.flyte_tasks import in_task, journals, run_task, the_run, wandb_runs

import tracelet
from tracelet.errors import ConfigurationError
from tracelet.integrations.flyte import (
    get_run,
    get_wandb_run,
    get_wandb_run_dir,
    run_config,
    track,
    wandb_config,
    wandb_init,
)

env = flyte.TaskEnvironment(name="decorator")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def _own_wandb(_isolated, monkeypatch):
    """wandb remembers the folders of the test before; a busy machine connects later than by default."""
    wandb.teardown()
    monkeypatch.setenv("TRACELET_CONNECT_TIMEOUT", "60")


def log(value):
    get_wandb_run().log({"x": value})


def ids():
    return get_run().run_id


# One task.


@wandb_init(project="p", entity="team", config={"lr": 0.1}, tags=["a"], group="g", job_type="train", name="first")
@env.task
def with_wandb(count: int) -> str:
    run = get_wandb_run()
    assert isinstance(run, wandb.Run)
    assert run is wandb.run is get_run().wandb_run
    assert run.dir == get_wandb_run_dir()
    for step in range(count):
        run.log({"loss": 1 / (step + 1)})
    return run.id


def test_a_task_has_a_run_of_wandb(tmp_path):
    """The example of the plugin's first page, in wandb's own offline mode."""
    run_id = run_task(with_wandb, 3)
    run = wandb_runs(tmp_path / "home")[run_id]
    assert ("p", "first", "g", ("a",), 0) == (run.project, run.name, run.group, run.tags, run.exit_code)
    assert [1, 0.5, 1 / 3] == [row["loss"] for row in run.rows if "loss" in row]
    assert 0.1 == run.config["lr"]
    found = the_run()
    assert found.id == run_id
    assert run_id.startswith("job-")
    assert ("p", "first", "g", ("a",)) == (found.project, found.name, found.group, found.tags)
    assert ("finished", 0) == (found.status, found.exit_code)
    assert wandb.run is None


@track(backend="csv", project="p")
@env.task
def with_csv() -> str:
    run = get_wandb_run()
    run.config.update({"lr": 0.1})
    run.log({"x": 1.0}, step=0)
    run.log({"x": 2.0}, step=1)
    get_run().log({"y": 3.0})
    return run.id


@track(backend="csv", project="p")
@env.task
async def with_csv_async() -> str:
    await asyncio.sleep(0)
    run = get_wandb_run()
    run.config.lr = 0.1
    run.log({"x": 1.0}, step=0)
    run.log({"x": 2.0}, step=1)
    get_run().log({"y": 3.0})
    return run.id


@pytest.mark.parametrize("task", [with_csv, with_csv_async])
def test_another_backend_has_the_same_verbs(task):
    """`get_wandb_run` logs as wandb's run does, `get_run` is the experiment."""
    run_id = run_task(task)
    found = the_run()
    assert (run_id, "p", "finished") == (found.id, found.project, found.status)
    assert {"x": [1, 2], "y": [3]} == found.series
    assert {"lr": 0.1} == found.params
    assert get_run() is None
    assert get_wandb_run() is None
    assert get_wandb_run_dir() is None


@track(backend="mlflow", project="p", name="m")
@env.task
def with_mlflow() -> str:
    get_wandb_run().log({"x": 1.0})
    assert get_run().mlflow_run.info.run_id
    return ids()


def test_mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/m.db")
    run_id = run_task(with_mlflow)
    (run,) = mlflow_store.runs(tmp_path / "m.db", tmp_path / "mlruns")
    assert (run_id, "FINISHED") == (run.tags["tracelet.run_id"], run.status)
    assert [1] == [point[1] for point in run.series("x")]


@wandb_init(backend=["wandb", "csv"])
@env.task
def with_two_backends() -> str:
    log(1.0)
    return ids()


def test_with_two_backends_both_get_what_is_logged(tmp_path):
    run_id = run_task(with_two_backends)
    assert {"x": [1]} == the_run().series
    assert [1] == [row["x"] for row in wandb_runs(tmp_path / "home")[run_id].rows if "x" in row]


@wandb_init
@env.task
def bare() -> str:
    log(1.0)
    return f"{get_run().project} {type(get_wandb_run()).__module__.split('.')[0]}"


@pytest.mark.parametrize(
    ("context", "variables", "expected"),
    [
        ({}, {}, "None wandb"),
        ({}, {"TRACELET_BACKEND": "csv", "TRACELET_PROJECT": "v"}, "v tracelet"),
        (run_config(backend="csv", project="c"), {"TRACELET_PROJECT": "v"}, "c tracelet"),
    ],
)
def test_the_backend_of_a_bare_decorator(context, variables, expected, monkeypatch):
    """Context, then tracelet's settings, then wandb."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert expected == run_task(bare, context=context)


@wandb_init(project="decorator", backend="csv")
@env.task
def of_decorator() -> str:
    return f"{get_run().project} {get_wandb_run().entity}"


def test_the_decorator_wins_over_the_context():
    context = wandb_config(project="context", entity="team")
    assert "decorator team" == run_task(of_decorator, context=context)


@wandb_init(settings=(given_settings := wandb.Settings(x_label="mine")))
@env.task
def with_settings() -> str:
    return str(get_wandb_run().settings.x_label)


def test_settings_are_not_changed(tmp_path):
    """Defect (vi) of the plugin: the object was shared by all tasks, and changed by each."""
    before = given_settings.model_dump()
    assert "mine" == run_task(with_settings)
    assert before == given_settings.model_dump()


@wandb_init(project="p")
@env.task
def asking_for_host() -> str:
    log(1.0)
    return str(get_wandb_run().settings.base_url)


def test_the_host_of_the_context_is_the_server_of_the_run():
    """Defect (ii) of the plugin: `wandb.init` has no argument `host`, so the task raised TypeError."""
    assert "http://127.0.0.1:9" == run_task(asking_for_host, context=wandb_config(host="http://127.0.0.1:9"))
    assert "finished" == the_run().status


# The end.


@wandb_init(project="p")
@env.task
def raising() -> str:
    log(1.0)
    raise KeyError("mine")


@track(backend="csv")
@env.task
async def raising_async() -> str:
    log(1.0)
    raise KeyError("mine")


def test_a_task_that_raises_is_failed_in_wandb(tmp_path):
    """Defect (v) of the plugin: it finished with exit code 0."""
    with pytest.raises(RuntimeUserError, match="mine"):
        run_task(raising)
    (run,) = wandb_runs(tmp_path / "home").values()
    assert 1 == run.exit_code
    assert ("failed", 1) == (the_run().status, the_run().exit_code)


def test_an_asynchronous_task_that_raises_is_failed():
    with pytest.raises(RuntimeUserError, match="mine"):
        run_task(raising_async)
    assert ("failed", 1) == (the_run().status, the_run().exit_code)
    assert {"x": [1]} == the_run().series


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt])
def test_an_aborted_task_is_killed(error):
    @track(backend="csv")
    @env.task
    async def aborted() -> str:
        log(1.0)
        raise error

    with pytest.raises(error):
        asyncio.run(in_task(aborted.func))
    assert ("killed", 130) == (the_run().status, the_run().exit_code)


@track(backend="csv")
@env.task
async def waiting() -> str:
    log(1.0)
    await asyncio.sleep(60)
    return ids()


def test_a_cancelled_task_is_killed():
    async def cancelled():
        task = asyncio.ensure_future(waiting.func())
        while not journals():
            await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert "killed" == the_run().status


attempts = []


@track(backend="csv", project="p")
@env.task(retries=1)
def flaky() -> str:
    attempts.append(ids())
    log(float(len(attempts)))
    if len(attempts) < 2:
        raise ValueError("once")
    return ids()


def test_a_retried_task_resumes_its_run():
    """An attempt has the action of the one before, and so the id of its run."""
    attempts.clear()
    run_id = run_task(flaky)
    assert [run_id, run_id] == attempts
    assert ("finished", {"x": [1, 2]}) == (the_run().status, the_run().series)
    assert [0, 1] == [step for _, step, _, _ in csv_store.stored(the_run().folder / "csv").scalars]


@wandb_init(project="p")
@env.task(retries=1)
def flaky_in_wandb() -> str:
    attempts.append(ids())
    log(float(len(attempts)))
    if len(attempts) < 2:
        raise ValueError("once")
    return ids()


def test_a_retried_task_resumes_its_run_in_wandb(tmp_path):
    """Offline, wandb has a recording for each attempt, both with the same id."""
    attempts.clear()
    run_id = run_task(flaky_in_wandb)
    found = wandb_store.runs(tmp_path / "home")
    assert [(run_id, [1], 1), (run_id, [2], 0)] == [
        (run.id, [row["x"] for row in run.rows if "x" in row], run.exit_code) for run in found
    ]


def test_a_retry_on_another_machine_resumes_the_run_in_the_store(tmp_path, monkeypatch):
    """It has no journal of the attempt before; the store has the run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/m.db")
    for machine in ("first", "second"):
        monkeypatch.setenv("TRACELET_DIR", str(tmp_path / machine))
        assert "job-a0" == in_task(with_mlflow.func, mode="remote")
    (run,) = mlflow_store.runs(tmp_path / "m.db", tmp_path / "mlruns")
    assert ("job-a0", "FINISHED") == (run.tags["tracelet.run_id"], run.status)
    assert [1, 1] == [point[1] for point in run.series("x")]


@track(backend="csv")
@env.task(retries=1)
def always_failing() -> str:
    log(1.0)
    raise ValueError("mine")


def test_a_task_that_fails_at_each_attempt_is_failed():
    with pytest.raises(RuntimeUserError, match="mine"):
        run_task(always_failing)
    assert ("failed", {"x": [1, 1]}) == (the_run().status, the_run().series)


# Nested tasks.


@track(backend="csv")
@env.task
def child(value: float) -> str:
    log(value)
    return ids()


@track(backend="csv", run_mode="new")
@env.task
def new_child(value: float) -> str:
    log(value)
    return ids()


@track(backend="csv", run_mode="shared")
@env.task
def sharing_child(value: float) -> str:
    log(value)
    return ids()


@env.task
def untracked_parent_of(mode: str) -> str:
    return {"auto": child, "new": new_child, "shared": sharing_child}[mode](1.0)


@track(backend="csv")
@env.task
def parent_of(mode: str) -> list[str]:
    log(0.0)
    before = get_wandb_run()
    found = {"auto": child, "new": new_child, "shared": sharing_child}[mode](1.0)
    assert before is get_wandb_run()
    log(2.0)
    return [ids(), found]


@pytest.mark.parametrize("mode", ["auto", "shared"])
def test_a_child_shares_the_run_of_its_parent(mode):
    """It does not end it either, and the parent's run is the current one again."""
    own, of_child = run_task(parent_of, mode)
    assert own == of_child == the_run().id
    assert ("finished", {"x": [0, 1, 2]}) == (the_run().status, the_run().series)


def test_a_new_child_has_its_own_run():
    own, of_child = run_task(parent_of, "new")
    found = journals()
    assert {own: {"x": [0, 2]}, of_child: {"x": [1]}} == {run_id: run.series for run_id, run in found.items()}
    assert {"finished"} == {run.status for run in found.values()}


@pytest.mark.parametrize("mode", ["auto", "new"])
def test_a_child_of_an_untracked_task_begins_a_run(mode):
    assert run_task(untracked_parent_of, mode) == the_run().id
    assert "finished" == the_run().status


def test_shared_without_a_parent_is_an_error():
    with pytest.raises(RuntimeUserError, match="Cannot reuse parent run: no parent run ID found"):
        run_task(untracked_parent_of, "shared")
    assert {} == journals()


def test_the_mode_of_the_context_counts():
    with pytest.raises(RuntimeUserError, match="Cannot reuse parent run"):
        run_task(child, 1.0, context=run_config(run_mode="shared"))
    assert {} == journals()


@env.task
def asking_for_run() -> bool:
    return get_run() is None and get_wandb_run() is None and get_wandb_run_dir() is None


@flyte.trace
async def traced_asking() -> bool:
    return get_run() is None or get_wandb_run() is None


@wandb_init(project="p")
@env.task
async def parent_of_untracked() -> list[bool]:
    assert get_wandb_run() is wandb.run
    found = [await asking_for_run.aio(), await traced_asking()]
    assert get_wandb_run() is wandb.run
    return found


def test_an_untracked_child_has_no_run(tmp_path):
    """As in a process of its own. A trace is a part of the task."""
    assert [True, False] == run_task(parent_of_untracked)


def test_the_run_of_a_task_of_the_plugin():
    run = object()
    assert run is in_task(get_wandb_run, data={"_wandb_run": run})
    assert in_task(get_wandb_run, data=None) is None


@track(backend="csv")
@env.task
def parent_of_failing() -> str:
    try:
        failing_child()
    except RuntimeUserError:
        log(5.0)
    return ids()


@track(backend="csv")
@env.task
def failing_child() -> str:
    log(1.0)
    raise ValueError("mine")


def test_an_error_that_the_parent_catches_does_not_fail_its_run():
    run_task(parent_of_failing)
    assert ("finished", {"x": [1, 5]}) == (the_run().status, the_run().series)


@track(backend="csv")
@env.task
def parent_with_context() -> list[str]:
    before = flyte.get_custom_context()
    new_child(1.0)
    assert before == flyte.get_custom_context()
    return [ids(), before["_wandb_run_id"], untracked_child()]


@env.task
def untracked_child() -> str:
    return flyte.get_custom_context()["_wandb_run_id"]


def test_the_context_of_a_task_has_the_id_of_its_run():
    """So that children in other processes find it; after a child with a run of its own, it is as before."""
    found = run_task(parent_with_context)
    assert 1 == len(set(found))


@track(backend="csv", id="base")
@env.task
def with_id() -> str:
    log(1.0)
    return ids()


def test_an_id_of_the_user_is_kept():
    assert "base" == run_task(with_id) == the_run().id


def test_the_id_of_the_context_is_that_of_the_first_run():
    """A new run of a child cannot have it too."""
    own, of_child = run_task(parent_of, "new", context=wandb_config(id="base"))
    assert "base" == own
    assert of_child.startswith("job-")


@track(backend="csv")
@env.task
async def parallel_parent(count: int) -> list[str]:
    log(-1.0)
    return [ids(), *await asyncio.gather(*(parallel_child(float(number)) for number in range(count)))]


@track(backend="csv", run_mode="new")
@env.task
async def parallel_child(number: float) -> str:
    for part in range(5):
        log(number + part / 10)
        await asyncio.sleep(0.01)
    return ids()


@track(backend="csv")
@env.task
async def parallel_parent_of_threads(count: int) -> list[str]:
    log(-1.0)
    return [ids(), *await asyncio.gather(*(new_thread_child.aio(float(number)) for number in range(count)))]


@track(backend="csv", run_mode="new")
@env.task
def new_thread_child(number: float) -> str:
    for part in range(5):
        log(number + part / 10)
    return ids()


@pytest.mark.parametrize("parent", [parallel_parent, parallel_parent_of_threads])
def test_twenty_parallel_children_do_not_mix_their_runs(parent):
    own, *children = run_task(parent, 20)
    expected = {run_id: {"x": [number + part / 10 for part in range(5)]} for number, run_id in enumerate(children)}
    assert {own: {"x": [-1]}, **expected} == {run_id: run.series for run_id, run in journals().items()}
    assert 21 == len(set(children) | {own})


@wandb_init(project="p")
@env.task
async def parallel_parent_of_wandb(count: int) -> list[str]:
    log(-1.0)
    return [ids(), *await asyncio.gather(*(parallel_child_of_wandb(float(number)) for number in range(count)))]


@wandb_init(run_mode="new", project="p")
@env.task
async def parallel_child_of_wandb(number: float) -> str:
    run = get_wandb_run()
    for part in range(3):
        run.log({"x": number + part / 10})
        await asyncio.sleep(0.01)
        assert run is get_wandb_run()
    return run.id


def test_parallel_children_in_wandb_do_not_mix_their_runs(tmp_path):
    own, *children = run_task(parallel_parent_of_wandb, 4)
    found = wandb_runs(tmp_path / "home")
    expected = {run_id: [number + part / 10 for part in range(3)] for number, run_id in enumerate(children)}
    assert {own: [-1], **expected} == {
        run_id: [row["x"] for row in run.rows if "x" in row] for run_id, run in found.items()
    }
    assert wandb.run is None


@track(project="p")
@env.task
async def parallel_parent_of_any(count: int) -> list[str]:
    get_run().log({"x": -1.0})
    children = await asyncio.gather(*(parallel_child_of_any(float(number)) for number in range(count)))
    get_run().log({"x": -2.0})
    return [ids(), *children]


@track(run_mode="new", project="p")
@env.task
async def parallel_child_of_any(number: float) -> str:
    for part in range(3):
        get_run().log({"x": number + part / 10})
        await asyncio.sleep(0.01)
    return ids()


def expected_of_any(own, children):
    return {own: [-1, -2], **{one: [n + part / 10 for part in range(3)] for n, one in enumerate(children)}}


def test_parallel_children_in_mlflow_do_not_mix_their_runs(tmp_path, monkeypatch):
    """They share a thread, and MLflow has one active run in each."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/m.db")
    own, *children = run_task(parallel_parent_of_any, 4, context=run_config(backend="mlflow"))
    runs = mlflow_store.runs(tmp_path / "m.db", tmp_path / "mlruns")
    found = {run.tags["tracelet.run_id"]: [point[1] for point in run.series("x")] for run in runs}
    assert expected_of_any(own, children) == found
    assert mlflow.active_run() is None


def test_parallel_children_in_clearml_do_not_mix_their_runs(tmp_path):
    """ClearML has one task in each process, so those of the children are in other processes."""
    own, *children = run_task(parallel_parent_of_any, 2, context=run_config(backend="clearml"))
    found = []
    for session in clearml_store.sessions(tmp_path / "home" / "clearml"):
        events = [event for event in clearml_store.events(session) if event["type"] == "training_stats_scalar"]
        found.append([event["value"] for event in events if clearml_store.tag(event) == "x"])
    assert sorted(expected_of_any(own, children).values()) == sorted(found)


@wandb_init(delivery="process")
@env.task
def with_delivery_process() -> str:
    log(1.0)
    return ids()


def test_where_wandb_is_in_another_process_the_run_has_its_methods(tmp_path):
    run_id = run_task(with_delivery_process)
    assert [1] == [row["x"] for row in wandb_runs(tmp_path / "home")[run_id].rows if "x" in row]


@wandb_init
@env.task
def with_global_log() -> str:
    wandb.log({"x": 1.0})
    wandb.config.update({"lr": 0.1})
    return ids()


def test_the_functions_of_wandb_act_on_the_run_of_the_task(tmp_path):
    run_id = run_task(with_global_log)
    run = wandb_runs(tmp_path / "home")[run_id]
    assert [1] == [row["x"] for row in run.rows if "x" in row]
    assert 0.1 == run.config["lr"]


# Distributed tasks; their runs are tested in tests/distributed.


class Elastic:
    nnodes, nproc_per_node = 2, 2


@pytest.fixture
def rank_1(monkeypatch):
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.usefixtures("rank_1")
@pytest.mark.parametrize("decorator", [wandb_init, track(backend="csv")])
def test_a_silent_rank(decorator):
    """Both `if run:` and a bare `run.log` work, and so does all else that wandb's run has."""

    @decorator
    @env.task
    def train() -> int:
        run = get_wandb_run()
        if run:
            raise AssertionError
        assert get_wandb_run_dir() is None
        run.log({"x": 1.0}, step=1)
        run.config.lr = 0.1
        run.config.update({"layers": 2})
        run.summary["best"] = 1.0
        run.define_metric("x")
        run.log_artifact("nowhere")
        run.finish()
        assert 0.1 == run.config.lr
        assert not get_run()
        return 1

    assert 1 == in_task(train.func)
    assert {} == journals()
    assert get_wandb_run() is None


@pytest.mark.usefixtures("rank_1")
def test_a_function_in_a_task_of_a_silent_rank_is_silent_too():
    @track(backend="csv")
    @env.task
    def train() -> str:
        return plain(1.0)

    assert "" == in_task(train.func)
    assert {} == journals()


@pytest.mark.usefixtures("rank_1")
def test_logs_of_distributed_tasks_are_not_downloaded(caplog):
    @track(backend="csv", run_mode="new", download_logs=True)
    @env.task
    def train() -> str:
        return ids()

    assert "job-a0-rank-1" == in_task(train.func)
    assert "download_logs is not supported for distributed tasks" in caplog.text


@pytest.mark.usefixtures("rank_1")
@pytest.mark.parametrize(
    ("arguments", "context"),
    [({"id": "mine"}, {}), ({}, wandb_config(id="mine")), ({"group": "own"}, wandb_config(id="mine"))],
)
def test_an_id_of_the_user_is_the_base_in_a_distributed_task(arguments, context):
    """Else all ranks would have the same id. The group is that of the user, if there is one."""

    @track(backend="csv", run_mode="new", **arguments)
    @env.task
    def train() -> str:
        return ids()

    assert "mine-rank-1" == in_task(train.func, context=context)
    assert arguments.get("group", "mine") == the_run().group


def test_logs_of_a_task_with_elastic_are_refused_at_once(caplog):
    @env.task
    def train() -> int:
        return 1

    train.plugin_config = Elastic()
    wandb_init(download_logs=True)(train)
    assert "download_logs is not supported for distributed tasks" in caplog.text


def test_elastic_runs_no_asynchronous_function(caplog):
    @env.task
    async def train() -> int:
        return 1

    train.plugin_config = Elastic()
    wandb_init(train)
    assert "Elastic runs functions that are not asynchronous" in caplog.text


# Functions that are no tasks.


@track(backend="csv")
def plain(value: float) -> str:
    log(value)
    return ids()


def test_a_plain_function_has_a_run_of_its_own():
    """For the objective of a sweep: the agent calls it in a thread, which has no task."""
    first, second = plain(1.0), plain(2.0)
    assert {first: {"x": [1]}, second: {"x": [2]}} == {run_id: run.series for run_id, run in journals().items()}


def test_a_task_that_is_called_as_a_function_has_a_run():
    assert child(1.0) == the_run().id


@track(backend="csv")
@flyte.trace
def traced(value: float) -> str:
    log(value)
    return ids()


@track(backend="csv")
@env.task
def parent_of_plain() -> list[str]:
    return [ids(), plain(1.0), traced(2.0)]


@track(backend="csv")
@env.task
async def parent_of_traces() -> list[str]:
    return [ids(), await async_trace(1.0), await async_trace(2.0)]


@flyte.trace
async def async_trace(value: float) -> str:
    log(value)
    return ids()


@pytest.mark.parametrize("task", [parent_of_plain, parent_of_traces])
def test_functions_and_traces_in_a_task_use_its_run(task):
    found = run_task(task)
    assert {the_run().id} == set(found)
    assert {"x": [1, 2]} == the_run().series


@env.task
def untracked_parent_of_plain() -> str:
    return plain(1.0)


def test_a_function_in_an_untracked_task_is_an_error():
    with pytest.raises(RuntimeUserError, match="cannot be applied to traces"):
        run_task(untracked_parent_of_plain)
    assert {} == journals()


# What stands outside.


def test_a_run_of_the_program_stays_active(tmp_path):
    """It is no parent of the task, and what is logged to it stays in it."""
    with tracelet.start_logging("own", backend="csv", project="q") as experiment:
        run_id = run_task(child, 1.0)
        assert experiment is tracelet.get_active_experiment()
        experiment.log({"own": 1.0})
    found = journals()
    assert {run_id: {"x": [1]}, experiment.run_id: {"own": [1]}} == {name: run.series for name, run in found.items()}


@track(backend="csv")
@env.task
def with_writer() -> str:
    from torch.utils.tensorboard import SummaryWriter

    assert get_run() is tracelet.get_active_experiment()
    with SummaryWriter("logs") as writer:
        writer.add_scalar("tb", 0.5, 0)
    return ids()


def test_a_summary_writer_of_the_task_is_captured():
    run_task(with_writer)
    assert {"tb": [0.5]} == the_run().series


def test_the_environment_and_the_run_of_before_are_restored():
    before = dict(os.environ)
    run_task(child, 1.0)
    assert before == dict(os.environ)
    assert tracelet.get_active_experiment() is None


def test_outside_of_tasks_the_run_is_that_of_the_program(tmp_path):
    with wandb.init(mode="offline") as run:
        assert run is get_wandb_run()
        assert run.dir == get_wandb_run_dir()
    assert get_wandb_run() is None


def test_an_unknown_argument_in_the_context_is_an_error_in_the_task():
    with pytest.raises(RuntimeUserError, match="unknown argument 'projekt'"):
        run_task(child, 1.0, context=wandb_config(projekt="p"))
    assert {} == journals()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"allow_val_change": True}, {"lr": 0.1, "layers": 2}),
        ({"config_include_keys": ["lr"]}, {"lr": 0.1}),
        ({"config_exclude_keys": ["lr"]}, {"layers": 2}),
    ],
)
@pytest.mark.parametrize("given", ["decorator", "context"])
def test_the_arguments_of_wandb_about_its_config(arguments, expected, given):
    arguments = {**arguments, "config": {"lr": 0.1, "layers": 2}}

    @wandb_init(backend="csv", **(arguments if given == "decorator" else {}))
    @env.task
    def train() -> None:
        log(1.0)

    in_task(train.func, context=wandb_config(**arguments) if given == "context" else {})
    assert expected == {name: the_run().params.get(name) for name in expected}
    assert not {"lr", "layers"} - expected.keys() & the_run().params.keys()


@pytest.mark.parametrize("name", ["fork_from", "resume_from"])
def test_a_run_that_begins_at_a_step_of_another_is_refused(name):
    with pytest.raises(ConfigurationError, match=f"{name} is not supported"):
        wandb_init(**{name: "run?_step=5"})


def test_an_unknown_argument_is_an_error_at_once():
    with pytest.raises(ConfigurationError, match=r"unknown argument 'projekt'.*project"):
        wandb_init(projekt="p")
    with pytest.raises(ConfigurationError, match="run_mode must be one of auto, new, shared, got 'old'"):
        track(run_mode="old")


def test_a_generator_is_an_error_at_once():
    def generator():
        yield 1

    with pytest.raises(ConfigurationError, match="generator"):
        track(generator)


def test_the_decorator_keeps_name_documentation_and_task():
    """The environment has the task already, so it stays the same object."""

    @wandb_init
    @env.task
    def named(x: int) -> int:
        """Doc."""
        return x

    assert env.tasks["decorator.named"] is named
    assert ("named", "Doc.") == (named.func.__name__, named.func.__doc__)
    assert 1 == len(named.links)
