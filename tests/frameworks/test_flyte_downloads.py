"""The files, the summary and the history of a task's run: from the server of W&B, and from the journal."""

import asyncio
import json
import os
from pathlib import Path

import flyte
import pytest
import wandb
from backends.wandb_public import PublicServer
from backends.wandb_server import Answer
from frameworks.flyte_tasks import in_task, journals, record_traces, run_task, the_run

from tracelet.integrations.flyte import (
    download_wandb_run_dir,
    download_wandb_run_logs,
    download_wandb_sweep_dirs,
    get_run,
    get_wandb_run,
    track,
    wandb_config,
    wandb_init,
)

env = flyte.TaskEnvironment(name="downloads")
pytestmark = pytest.mark.timeout(180)
ROWS = 700
"""More than the 500 rows of a sample."""


@pytest.fixture(autouse=True)
def _own_wandb(_isolated, monkeypatch):
    """wandb remembers the folders of the test before; a busy machine connects later than by default."""
    wandb.teardown()
    monkeypatch.setenv("TRACELET_CONNECT_TIMEOUT", "60")


@pytest.fixture
def server(monkeypatch):
    server = PublicServer().start()
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    yield server
    wandb.teardown()
    server.stop()


def read(folder, name):
    return json.loads((Path(folder) / name).read_text())


# Other backends: the journal.


@track(backend="csv", project="p")
@env.task
def with_csv(rows: int) -> str:
    run = get_wandb_run()
    run.config.lr = 0.1
    for step in range(rows):
        run.log({"x": float(step), "y": -float(step)}, step=step)
    Path("notes.txt").write_text("mine")
    run.save("notes.txt")
    return run.id


def test_the_whole_history_of_a_run_on_this_machine(tmp_path):
    """Defect (iii) of the plugin: its history was a sample of 500 rows."""
    run_id = run_task(with_csv, ROWS)
    folder = download_wandb_run_dir(run_id, str(tmp_path / "got"))
    assert str(tmp_path / "got") == folder
    rows = read(folder, "metrics_history.json")
    assert list(map(float, range(ROWS))) == [row["x"] for row in rows]
    assert {"x": ROWS - 1.0, "y": 1.0 - ROWS} == {key: read(folder, "summary.json")[key] for key in ("x", "y")}
    assert "mine" == (tmp_path / "got" / "notes.txt").read_text()


def test_without_history(tmp_path):
    run_id = run_task(with_csv, 1)
    folder = download_wandb_run_dir(run_id, str(tmp_path / "got"), include_history=False)
    assert {"summary.json", "notes.txt"} == set(os.listdir(folder))


@track(backend="csv")
@env.task
def downloading_itself() -> str:
    get_wandb_run().log({"x": 1.0})
    get_run().flush()
    return download_wandb_run_dir()


def test_the_current_run_is_the_default(tmp_path):
    folder = run_task(downloading_itself)
    assert the_run().id == Path(folder).name
    assert "wandb_runs" == Path(folder).parent.name
    assert [1] == [row["x"] for row in read(folder, "metrics_history.json")]


@track(backend="csv", download_logs=True)
@env.task
def with_logs(rows: int) -> str:
    get_wandb_run().log({"x": 1.0})
    return get_wandb_run().id


@track(backend="csv")
@env.task
async def with_logs_by_context(rows: int) -> str:
    get_wandb_run().log({"x": 1.0})
    return get_wandb_run().id


@pytest.fixture
def traces(monkeypatch):
    return record_traces(monkeypatch)


@pytest.mark.parametrize(
    ("task", "context"), [(with_logs, {}), (with_logs_by_context, wandb_config(download_logs=True))]
)
def test_logs_are_a_directory_of_flyte_with_a_trace(task, context, traces):
    """For sync and async tasks, by decorator and context."""
    run_task(task, 3, context=context)
    ((name, folder),) = traces
    assert ("download_wandb_run_logs", the_run().id) == (name, folder.name)
    assert [1] == [row["x"] for row in read(folder, "metrics_history.json")]
    assert "finished" == the_run().status


def test_the_decorator_wins(traces):
    @track(backend="csv", download_logs=False)
    @env.task
    def without() -> str:
        return get_wandb_run().id

    run_task(without, context=wandb_config(download_logs=True))
    assert [] == traces


@track(backend="csv", download_logs=True)
@env.task
def parent_with_logs() -> list[str]:
    return [with_logs(1), with_logs(1)]


def test_the_task_that_begins_the_run_downloads_it(traces):
    """Not each child that shares it."""
    run_task(parent_with_logs)
    assert 1 == len(traces)


@track(backend="csv", download_logs=True)
@env.task
def failing_with_logs() -> str:
    raise ValueError("mine")


def test_a_task_that_raises_has_no_logs(traces):
    with pytest.raises(RuntimeError, match="mine"):
        run_task(failing_with_logs)
    assert [] == traces


def test_wandb_offline_is_read_from_the_journal(tmp_path):
    """Its server has nothing of the run."""

    @wandb_init(project="p", backend=["wandb", "csv"])
    @env.task
    def offline() -> str:
        get_wandb_run().log({"x": 1.0})
        return get_wandb_run().id

    folder = download_wandb_run_dir(run_task(offline), str(tmp_path / "got"))
    assert [1] == [row["x"] for row in read(folder, "metrics_history.json")]


# W&B.


@wandb_init(project="p", entity="team", download_logs=True)
@env.task
def online(rows: int) -> str:
    run = get_wandb_run()
    for step in range(rows):
        run.log({"x": float(step)})
    return run.id


def test_the_whole_history_of_a_run_of_the_server(server, traces):
    """Defect (iii) of the plugin; and all files that the server has."""
    run_id = run_task(online, ROWS)
    assert {run_id} == set(server.runs)
    ((_, folder),) = traces
    rows = read(folder, "metrics_history.json")
    assert list(map(float, range(ROWS))) == [row["x"] for row in rows if "x" in row]
    assert ROWS - 1.0 == read(folder, "summary.json")["x"]
    assert set(server.runs[run_id].files) <= {path.name for path in folder.rglob("*")}


def test_by_project_and_entity_of_the_context(server, tmp_path):
    """From a task without a journal of the run."""
    run = wandb.init(project="p", entity="team", id="other")
    run.log({"x": 1.0})
    run.finish()
    assert {} == journals()

    def download():
        return download_wandb_run_dir("other", str(tmp_path / "got"))

    folder = in_task(download, context=wandb_config(project="p", entity="team"))
    assert [1] == [row["x"] for row in read(folder, "metrics_history.json")]


# What goes wrong. Each is a RuntimeError.


def test_there_is_no_run():
    with pytest.raises(RuntimeError, match="No run_id provided and no active wandb run found in context"):
        download_wandb_run_dir()


def test_there_is_no_sweep():
    with pytest.raises(RuntimeError, match="No sweep_id provided and no active wandb sweep found in context"):
        download_wandb_sweep_dirs()


def test_a_sweep_needs_its_project():
    with pytest.raises(RuntimeError, match="Cannot query sweep without entity and project"):
        download_wandb_sweep_dirs("s1")


def test_the_run_does_not_exist(server, tmp_path):
    with pytest.raises(RuntimeError, match="Failed to fetch wandb run 'team/p/none'"):
        in_task(download_wandb_run_dir, "none", str(tmp_path / "x"), context=wandb_config(project="p", entity="team"))


def test_the_key_is_wrong(server, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "key", "other" * 8)
    with pytest.raises(RuntimeError, match="wandb run 'team/p/r'"):
        in_task(download_wandb_run_dir, "r", str(tmp_path / "x"), context=wandb_config(project="p", entity="team"))


def test_there_is_no_key(monkeypatch, tmp_path):
    """AuthenticationError is a CommError, and has its own text."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "Api", raising(wandb.errors.AuthenticationError("no key")))
    with pytest.raises(RuntimeError, match=r"Authentication failed when accessing wandb run 'p/r'.*WANDB_API_KEY"):
        in_task(download_wandb_run_dir, "r", str(tmp_path / "x"), context=wandb_config(project="p"))


def raising(error):
    def call(*args, **kwargs):
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (wandb.errors.CommError("gone"), "Failed to fetch wandb run 'r'.*gone"),
        (wandb.errors.AuthenticationError("key"), "Authentication failed when accessing wandb run 'r'.*key"),
        (ValueError("Could not find run"), "Failed to fetch wandb run 'r'.*not find"),
        (ValueError("odd"), "Unexpected error fetching wandb run 'r'.*odd"),
    ],
)
def test_an_error_of_the_api(error, text, monkeypatch, tmp_path):
    """No server answers so; the classes are those of wandb."""
    monkeypatch.setattr(wandb, "Api", raising(error))
    with pytest.raises(RuntimeError, match=text) as caught:
        download_wandb_run_dir("r", str(tmp_path / "x"))
    assert error is caught.value.__cause__


def test_the_folder_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeError, match="Failed to create download directory"):
        download_wandb_run_dir("r", str(tmp_path / "file" / "x"))


@pytest.mark.parametrize("name", ["summary.json", "metrics_history.json"])
def test_a_file_cannot_be_written(name, tmp_path):
    run_id = run_task(with_csv, 1)
    (tmp_path / "got" / name).mkdir(parents=True)
    with pytest.raises(RuntimeError, match=f"Failed to write {name} for run '{run_id}'"):
        download_wandb_run_dir(run_id, str(tmp_path / "got"))


def test_a_file_cannot_be_downloaded(server, tmp_path):
    run_id = run_task(online, 1)
    with server.fault(lambda call: Answer(404) if call.startswith("/storage/") else None):
        with pytest.raises(RuntimeError, match=f"Failed to download files for run '{run_id}'"):
            download_wandb_run_dir(run_id, str(tmp_path / "got"))


def test_a_download_that_fails_does_not_fail_the_task(tmp_path, monkeypatch, caplog):
    """Its result would be lost."""
    (Path(os.environ["TMPDIR"]) / "wandb_runs").write_text("a file")
    run_id = run_task(with_logs, 1)
    assert run_id == the_run().id
    assert "finished" == the_run().status
    assert "download_logs: Failed to create download directory" in caplog.text


def test_outside_of_tasks_the_logs_are_a_directory_too(tmp_path):
    run_id = run_task(with_csv, 1)
    found = in_task(lambda: asyncio.run(download_wandb_run_logs(run_id)))
    assert isinstance(found, flyte.io.Dir)
