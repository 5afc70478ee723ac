"""Sweeps of W&B in tasks: the real SDK, its agents, and a stand-in for the server."""

import os
import re
import threading
from pathlib import Path

import flyte
import pytest
import wandb
from backends.wandb_public import PublicServer
from flyte.errors import RuntimeUserError
from frameworks.flyte_tasks import in_task, record_traces, run_task
from support import REPOSITORY
from wandb.agents.pyagent import Agent

from tracelet.integrations.flyte import (
    download_wandb_sweep_dirs,
    get_wandb_run,
    get_wandb_sweep_context,
    get_wandb_sweep_id,
    wandb_config,
    wandb_init,
    wandb_sweep,
    wandb_sweep_config,
)

env = flyte.TaskEnvironment(name="sweeps")
pytestmark = [
    pytest.mark.timeout(180),
    # wandb does not close the file in which an agent gives a trial its parameters.
    pytest.mark.filterwarnings(r"ignore:Exception ignored in. <_io\.FileIO:pytest.PytestUnraisableExceptionWarning"),
]
PLACE = {"project": "p", "entity": "team"}
GRID = {"method": "grid", "metric": {"name": "loss", "goal": "minimize"}}
PARAMETERS = {"lr": {"values": [0.1, 0.2]}, "layers": {"values": [1, 2]}}


@pytest.fixture(autouse=True)
def server(_isolated, monkeypatch):
    wandb.teardown()
    server = PublicServer().start()
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRACELET_CONNECT_TIMEOUT", "60")
    monkeypatch.setattr(Agent, "HEARTBEAT_SLEEP_SECONDS", 0.05)
    yield server
    wandb.teardown()
    server.stop()


@wandb_init
def objective():
    run = get_wandb_run()
    run.log({"loss": run.config.lr * run.config.layers})
    if run.config.lr == 0.2 and run.config.layers == 2:
        raise ValueError("the last trial fails")


@wandb_sweep
@env.task
def search(count: int) -> list[str]:
    sweep_id = get_wandb_sweep_id()
    wandb.agent(sweep_id, function=objective, count=count)
    return [sweep_id, asking_for_sweep()]


@env.task
def asking_for_sweep() -> str:
    return f"{get_wandb_sweep_id()} {get_wandb_sweep_context().project}"


def test_the_trials_of_a_sweep_are_runs_with_its_parameters(server):
    """Each trial has the id and the parameters that the agent got. One that raises is failed."""
    before = dict(os.environ)
    sweep_id, of_child = run_task(search, 4, context=wandb_sweep_config(**GRID, **PLACE, parameters=PARAMETERS))
    assert "sweep1" == sweep_id
    assert "sweep1 p" == of_child
    sweep = server.sweeps[sweep_id]
    assert {**GRID, "parameters": PARAMETERS} == {key: sweep.config[key] for key in (*GRID, "parameters")}
    assert sweep.config["name"].startswith("job-")
    assert ("p", "team") == (sweep.variables["projectName"], sweep.variables["entityName"])
    assert [f"sweep1-trial{number}" for number in range(1, 5)] == sweep.runs
    found = [
        (run.config["lr"]["value"], run.config["layers"]["value"], *run.values("loss"), run.project, run.exit_codes)
        for run in (server.runs[name] for name in sweep.runs)
    ]
    assert [
        (0.1, 1, 0.1, "p", [0]),
        (0.2, 1, 0.2, "p", [0]),
        (0.1, 2, 0.2, "p", [0]),
        (0.2, 2, 0.4, "p", [1]),
    ] == found
    assert {name: before.get(name) for name in ("WANDB_PROJECT", "WANDB_ENTITY")} == {
        name: os.environ.get(name) for name in ("WANDB_PROJECT", "WANDB_ENTITY")
    }


@wandb_sweep(project="own", name="named", method="grid", parameters={"lr": {"values": [1]}})
@env.task
def named() -> str:
    return get_wandb_sweep_id()


def test_where_the_configuration_comes_from(server):
    """Decorator, sweep configuration, configuration of the run."""
    context = {**wandb_config(project="third", entity="team"), **wandb_sweep_config(project="second", method="bayes")}
    sweep = server.sweeps[run_task(named, context=context)]
    assert ("own", "team") == (sweep.variables["projectName"], sweep.variables["entityName"])
    assert ("named", "grid", {"lr": {"values": [1]}}) == tuple(
        sweep.config[key] for key in ("name", "method", "parameters")
    )


def test_the_sweep_of_the_context_is_used_again(server):
    assert "given" == run_task(named, context={"_wandb_sweep_id": "given"})
    assert {} == server.sweeps


@wandb_sweep
@env.task
def bare() -> str:
    return get_wandb_sweep_id()


def test_without_a_configuration(server):
    with pytest.raises(RuntimeUserError, match="No wandb sweep config found"):
        run_task(bare)
    assert {} == server.sweeps


def test_a_function_that_is_no_task():
    with pytest.raises(RuntimeError, match="can only be used with Flyte tasks"):

        @wandb_sweep
        def plain():
            return 1


def test_outside_there_is_no_sweep():
    assert get_wandb_sweep_id() is None


@wandb_sweep(**PLACE, **GRID, parameters=PARAMETERS)
@env.task
async def search_async() -> str:
    return get_wandb_sweep_id()


def test_an_asynchronous_task(server):
    assert "sweep1" == run_task(search_async)


def test_at_most_twenty_agents_at_a_time(monkeypatch):
    """In one process: an agent cannot see those of other machines."""
    enter, leave = threading.Semaphore(0), threading.Event()

    def agent(sweep_id):
        enter.release()
        leave.wait(60)
        return sweep_id

    monkeypatch.setattr(wandb, "agent", agent)

    @wandb_sweep(**PLACE, **GRID, parameters=PARAMETERS)
    @env.task
    def many() -> str:
        threads = [threading.Thread(target=wandb.agent, args=(get_wandb_sweep_id(),)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert enter.acquire(timeout=30)
        try:
            wandb.agent(get_wandb_sweep_id())
        except RuntimeError as error:
            return str(error)
        finally:
            leave.set()
            for thread in threads:
                thread.join(30)
        return wandb.agent(get_wandb_sweep_id())

    assert run_task(many).startswith("20 sweep agents run in this process")
    assert wandb.agent is agent


@wandb_sweep(download_logs=True)
@env.task
def search_with_logs() -> str:
    wandb.agent(get_wandb_sweep_id(), function=objective, count=2)
    return get_wandb_sweep_id()


CONTEXT = wandb_sweep_config(**GRID, **PLACE, parameters=PARAMETERS)


def test_the_logs_of_all_trials_are_a_directory_of_flyte(monkeypatch):
    traces = record_traces(monkeypatch)
    run_task(search_with_logs, context=CONTEXT)
    ((name, folder),) = traces
    assert "download_wandb_sweep_logs" == name
    assert ["sweep1-trial1", "sweep1-trial2"] == sorted(path.parent.name for path in folder.glob("*/summary.json"))


def test_a_trial_that_cannot_be_downloaded_is_missing(server, tmp_path, caplog):
    run_task(search, 2, context=CONTEXT)
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "sweep1-trial1").write_text("in the way")

    def download():
        return download_wandb_sweep_dirs("sweep1", str(tmp_path / "got"))

    assert [str(tmp_path / "got" / "sweep1-trial2")] == in_task(download, context=CONTEXT)
    assert "Failed to download 1/2 runs for sweep 'sweep1'" in caplog.text
    (tmp_path / "got" / "sweep1-trial2").rename(tmp_path / "away")
    (tmp_path / "got" / "sweep1-trial2").write_text("in the way")
    with pytest.raises(RuntimeError, match="Failed to download all 2 runs for sweep 'sweep1'"):
        in_task(download, context=CONTEXT)


def test_a_sweep_that_does_not_exist(tmp_path):
    with pytest.raises(RuntimeError, match="Failed to fetch wandb sweep 'team/p/none'"):
        in_task(download_wandb_sweep_dirs, "none", str(tmp_path), context=CONTEXT)
    assert [] == list(Path(tmp_path).glob("sweep*"))


def test_the_program_of_the_page_runs(server):
    """The block of docs/users/flyte.md that tests/test_docs.py cannot run without a server."""
    page = (REPOSITORY / "docs" / "users" / "flyte.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (block,) = [block for block in blocks if "wandb.agent" in block]
    names = {"flyte": flyte, "env": env, "__name__": "page", "get_wandb_run": get_wandb_run, "wandb_init": wandb_init}
    flyte.init()
    exec(compile(block, "page", "exec"), names)
    assert [[0.1**2], [0.2**2]] == [server.runs[name].values("loss") for name in server.sweeps["sweep1"].runs]
