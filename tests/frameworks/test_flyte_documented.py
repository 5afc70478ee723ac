"""What the wandb plugin for Flyte documents, as programs that differ in their import: into W&B, csv files and MLflow.

The distributed examples are in tests/distributed/test_flyte_ranks.py.
"""

import flyte
import pytest
import wandb
from backends import mlflow_store, wandb_store
from backends.wandb_public import PublicServer
from frameworks.flyte_tasks import journals, record_traces, run_task
from wandb.agents.pyagent import Agent

from tracelet.integrations.flyte import (
    RankScope,
    RunMode,
    Wandb,
    WandbSweep,
    get_distributed_info,
    get_wandb_run,
    get_wandb_sweep_id,
    wandb_config,
    wandb_init,
    wandb_sweep,
    wandb_sweep_config,
)

env = flyte.TaskEnvironment(name="documented")
pytestmark = [
    pytest.mark.timeout(240),
    # wandb does not close the file in which an agent gives a trial its parameters.
    pytest.mark.filterwarnings(r"ignore:Exception ignored in. <_io\.FileIO:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(params=["wandb", "csv", "mlflow"])
def backend(request, _isolated, monkeypatch, tmp_path):
    """The programs name no backend: without the setting it is W&B."""
    wandb.teardown()
    monkeypatch.setenv("TRACELET_CONNECT_TIMEOUT", "60")
    if request.param != "wandb":
        monkeypatch.setenv("TRACELET_BACKEND", request.param)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/m.db")
    return request.param


@pytest.fixture
def server(monkeypatch):
    server = PublicServer().start()
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Agent, "HEARTBEAT_SLEEP_SECONDS", 0.05)
    yield server
    wandb.teardown()
    server.stop()


def stored(backend, tmp_path):
    """Return by id the project and the points of each run in the backend's own store."""
    found = {}
    if backend == "wandb":
        for run in wandb_store.runs(tmp_path / "home"):
            points = {}
            for row in run.rows:
                for key, value in row.items():
                    points.setdefault(key, []).append(value)
            found[run.id] = (run.project, points)
    elif backend == "csv":
        found = {run.id: (run.project, run.series) for run in journals().values()}
    else:
        for run in mlflow_store.runs(tmp_path / "m.db", tmp_path / "mlruns"):
            tags = {run.tag_of(key) for key, *_ in run.metrics}
            points = {tag: [value for _, value, _ in run.series(tag)] for tag in tags}
            found[run.tags["tracelet.run_id"]] = (run.experiment, points)
    names = ("loss", "accuracy", "metric", "child")
    return {
        run_id: (project, {name: points[name] for name in names if name in points})
        for run_id, (project, points) in found.items()
    }


def ended():
    return {run_id: run.status for run_id, run in journals().items()}


# One task, and the ways to configure it.


@wandb_init(project="images", entity="team")
@env.task
def train() -> str:
    run = get_wandb_run()
    run.log({"loss": 0.5, "accuracy": 0.75})
    return run.id


def test_the_first_example(backend, tmp_path):
    run_id = run_task(train)
    assert {run_id: ("images", {"loss": [0.5], "accuracy": [0.75]})} == stored(backend, tmp_path)
    assert {run_id: "finished"} == ended()


@wandb_init
@env.task
def configured(metric: float) -> str:
    run = get_wandb_run()
    if run:
        run.log({"metric": metric})
    assert get_distributed_info() is None
    return run.id


def test_arguments_from_the_context(backend, tmp_path):
    context = wandb_config(project="images", entity="team", tags=["first", "second"])
    run_id = run_task(configured, 2.5, context=context)
    assert {run_id: ("images", {"metric": [2.5]})} == stored(backend, tmp_path)
    assert ("first", "second") == journals()[run_id].tags


def test_outside_of_tasks_there_is_no_run(backend):
    assert get_wandb_run() is None


# Tasks in tasks.


@wandb_init(run_mode="new")
@env.task
async def new_child() -> str:
    run = get_wandb_run()
    run.log({"child": 1.0})
    return run.id


@wandb_init(run_mode="shared")
@env.task
async def shared_child() -> str:
    run = get_wandb_run()
    run.log({"child": 2.0})
    return run.id


@wandb_init
@env.task
async def auto_child() -> str:
    run = get_wandb_run()
    run.log({"child": 3.0})
    return run.id


@wandb_init
@env.task
async def parent() -> list[str]:
    run = get_wandb_run()
    run.log({"metric": 1.0})
    own = await new_child()
    shared, same = await shared_child(), await auto_child()
    with wandb_config(project="other", run_mode="new"):
        other = await auto_child()
    return [run.id, shared, same, own, other]


def test_the_run_modes(backend, tmp_path):
    run_id, shared, same, own, other = run_task(parent, context=wandb_config(project="images", entity="team"))
    assert run_id == shared == same
    expected = {
        run_id: ("images", {"metric": [1.0], "child": [2.0, 3.0]}),
        own: ("images", {"child": [1.0]}),
        other: ("other", {"child": [3.0]}),
    }
    assert len(expected) == 3
    assert expected == stored(backend, tmp_path)
    assert dict.fromkeys(expected, "finished") == ended()


# Sweeps.


@wandb_init
def objective():
    run = get_wandb_run()
    assert run is wandb.run
    config = run.config
    wandb.log({"loss": config.lr * config.batch_size})


@wandb_sweep
@env.task
def search() -> str:
    wandb.agent(get_wandb_sweep_id(), function=objective, count=4)
    return get_wandb_sweep_id()


def test_a_sweep(backend, server, tmp_path):
    """The sweep and its agent are W&B's; the runs go to the backend, with the parameters that the agent chose."""
    parameters = {"lr": {"values": [0.5, 0.25]}, "batch_size": {"values": [2, 4]}}
    context = wandb_sweep_config(
        method="grid", metric={"name": "loss", "goal": "minimize"}, parameters=parameters, project="images"
    )
    sweep_id = run_task(search, context=context)
    trials = server.sweeps[sweep_id].runs
    expected = dict(zip(trials, ([1.0], [0.5], [2.0], [1.0]), strict=True))
    if backend == "wandb":
        found = {run_id: run.values("loss") for run_id, run in server.runs.items()}
    else:
        found = {run_id: points["loss"] for run_id, (_, points) in stored(backend, tmp_path).items()}
    assert expected == found
    assert wandb.run is None
    assert dict.fromkeys(trials, "finished") == ended()
    if backend == "csv":
        pairs = [(run.params["batch_size"], run.params["lr"]) for _, run in sorted(journals().items())]
        assert [(2, 0.5), (2, 0.25), (4, 0.5), (4, 0.25)] == pairs


# Files.


@wandb_init(download_logs=True)
@env.task
def kept() -> str:
    run = get_wandb_run()
    for step in range(3):
        run.log({"loss": float(step)})
    return run.id


def test_the_files_of_a_run(backend, monkeypatch):
    traces = record_traces(monkeypatch)
    run_task(kept, context=wandb_config(project="images"))
    ((name, folder),) = traces
    assert "download_wandb_run_logs" == name
    assert {"summary.json", "metrics_history.json"} <= {path.name for path in folder.rglob("*")}


# Links and types.


def test_links(backend):
    """The setting of another backend changes no link that the decorator of W&B has."""
    where = ("job", "p", "d", dict(wandb_config(project="images", entity="team")), "", "a0", "pod")
    assert ["https://wandb.ai/team/images/runs/job-a0"] == [link.get_link(*where) for link in configured.links]
    assert [Wandb] == [type(link) for link in train.links]
    assert [WandbSweep] == [type(link) for link in search.links]


def test_types():
    assert ("auto", "new", "shared") == RunMode.__args__
    assert ("global", "worker") == RankScope.__args__
