"""Two nodes of two processes that share one run, or one per node: what each store has of each rank.

MLflow and Trackio have one run. csv and TensorBoard have a folder per rank. wandb and ClearML, both offline, and Aim
have a run per rank in one group. In wandb's own shared mode there is one run. Online, an HTTP stand-in is the server.
"""

import json

import pytest
from backends import aim_store, clearml_store, csv_store, mlflow_store, tensorboard_store, trackio_store, wandb_store
from backends.clearml_server import ClearmlServer
from backends.wandb_server import WandbServer
from distributed.launching import torchrun
from distributed.test_torchrun import PROGRAM, STEPS, launched, servers  # noqa: F401 - a fixture

from tracelet.journal.store import JournalReader

pytestmark = pytest.mark.timeout(900)
LABELS = ("worker-0-rank-0", "worker-0-rank-1", "worker-1-rank-0", "worker-1-rank-1")
# By scope, each run's ranks in their order: what follows the base id in its id, and the processes that log to it.
TABLE = {"global": {"": (0, 1, 2, 3)}, "worker": {"-worker-0": (0, 1), "-worker-1": (2, 3)}}


@pytest.fixture(params=list(TABLE), scope="module")
def job(request, servers, tmp_path_factory):  # noqa: F811
    """One job: its scope, its folder, and its base id."""
    folder = tmp_path_factory.mktemp("job")
    said = launched(folder, "shared", request.param, servers)
    assert not any(one["is_silent"] for one in said.values())
    suffix = next(iter(TABLE[request.param]))
    return request.param, folder, said[0]["run"].removesuffix(suffix)


def points(process):
    return [100 * process + step / 4 for step in range(STEPS)]


def name(rank, text):
    return f"rank-{rank}/{text}" if rank else text


def expected(job):
    """By run, the points of each series."""
    scope, _, base = job
    return {
        base + suffix: {name(rank, "loss"): points(process) for rank, process in enumerate(processes)}
        for suffix, processes in TABLE[scope].items()
    }


def expected_by_rank(job):
    """By run and label, the points of each series: for a store with a part per rank."""
    scope, _, base = job
    return {
        (base + suffix, LABELS[process]): {name(rank, "loss"): points(process)}
        for suffix, processes in TABLE[scope].items()
        for rank, process in enumerate(processes)
    }


def series(scalars):
    found = {}
    for tag, _, value, _ in scalars:
        found.setdefault(tag, []).append(value)
    return found


def parts(job, what):
    """Yield the run's id, the label, and the path `what` in each folder of a rank."""
    for path in (*job[1].glob(f"runs/*/*/{what}"), *job[1].glob(f"runs/*/*/ranks/*/{what}")):
        with JournalReader(path.parent) as reader:
            yield reader.info().run_id, reader.info().label, path


def test_each_rank_has_a_journal_in_the_runs_folder(job):
    found = {}
    for run, label, path in parts(job, "journal.db"):
        with JournalReader(path.parent) as reader:
            assert ("finished", 0) == (reader.facts()["status"], reader.facts()["exit_code"])
            assert [0] * 7 == [cursor.position - reader.last() for cursor in reader.cursors().values()]
            found[run, label] = series((r.tag, 0, r.value, 0) for r in reader.records() if hasattr(r, "value"))
    assert expected_by_rank(job) == found


def test_csv(job):
    found = {(run, label): series(csv_store.stored(path).scalars) for run, label, path in parts(job, "csv")}
    assert expected_by_rank(job) == found


def test_tensorboard(job):
    found = {}
    for run, label, path in parts(job, "tensorboard"):
        found[run, label] = series(tensorboard_store.stored(path).scalars)
    assert expected_by_rank(job) == found


def test_trackio(job):
    found = {}
    for database in (job[1] / "trackio").glob("*.db"):
        for row in trackio_store.rows(database, "SELECT run_id, config FROM configs"):
            config = json.loads(row["config"])
            found[config["run"]] = series(trackio_store.stored(job[1] / "trackio", row["run_id"]).scalars)
            assert ("finished", None) == (config["_tracelet"]["status"], config.get("_Group"))
    assert expected(job) == found


def test_mlflow(job, servers):  # noqa: F811
    found = {}
    for run in mlflow_store.runs(servers[0].database, servers[0].artifacts):
        if run.tags["tracelet.run_id"].startswith(job[2]):
            assert "FINISHED" == run.status
            of_tag = series((run.tag_of(key), step, value, 0) for key, step, value, _ in run.metrics)
            found[run.tags["tracelet.run_id"]] = of_tag
            processes = TABLE[job[0]][run.tags["tracelet.run_id"].removeprefix(job[2])]
            for rank, process in enumerate(processes):
                assert process == run.exact_params[name(rank, "rank")]
    assert expected(job) == found


def grouped(job):
    """For a vendor with a run per rank: its group, and its points, by the vendor's run."""
    return {
        run if name(0, "loss") in points else f"{run}-{label}": (run, points)
        for (run, label), points in expected_by_rank(job).items()
    }


def test_wandb(job):
    found = {}
    for run in wandb_store.runs(job[1]):
        assert 0 == run.exit_code
        (tag,) = {key for row in run.rows for key in row if key.endswith("loss")}
        found[run.id] = run.group, {tag: [row[tag] for row in run.rows if tag in row]}
    assert grouped(job) == found


def test_clearml(job):
    found = {}
    for session in clearml_store.sessions(job[1] / "clearml"):
        content = clearml_store.StoreContent()
        task = clearml_store.description(session)
        clearml_store.add(clearml_store.events(session), task, clearml_store._local(session), content)
        (group,) = [tag.removeprefix("group:") for tag in task["tags"]]
        assert task["name"].startswith("a run")
        label = task["name"].removeprefix("a run").strip()
        found[f"{group}-{label}" if label else group] = group, series(content.scalars)
    assert grouped(job) == found


def test_aim(job, servers):  # noqa: F811
    found = {}
    for run in aim_store.runs(servers[1].repo):
        about = run.attributes["tracelet"]
        if about["run_id"].startswith(job[2]):
            assert (True, "finished") == (run.ended, about["status"])
            content = aim_store.stored(servers[1].repo, run.hash)
            found[about["run_id"]] = about["group"], series(content.scalars)
    assert grouped(job) == found


def on_server(folder, backend, environment):
    """Run a job of two ranks that share a run, on the server of an environment. Return what each rank said."""
    variables = {
        "TRACELET_RUN_MODE": "shared",
        "TRACELET_DIR": str(folder / "runs"),
        "BACKENDS": backend,
        "CONFIG": "{}",
        "HOME": str(folder),
        **environment,
    }
    return torchrun(folder, PROGRAM, nodes=1, **variables)


def test_wandb_in_its_own_shared_mode(tmp_path):
    """Rank 0 ends the run, and describes it. The others have the same run, and a label. No row is lost.

    In this mode the server cannot tell which rows it has, so those that wandb did not confirm in time arrive twice.
    """
    server = WandbServer().start()
    environment = server.environment() | {"WANDB_MODE": "shared", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}
    try:
        said = on_server(tmp_path, "wandb", environment)
    finally:
        server.stop()
    assert {said[0]["run"]} == set(server.runs)
    run = server.the_run()
    found = {rank: run.values(name(rank, "loss")) for rank in range(2)}
    assert {rank: points(rank) for rank in range(2)} == {rank: sorted(set(values)) for rank, values in found.items()}
    assert {"rank": 0, "rank-1/rank": 1} == {
        key: item["value"] for key, item in run.config.items() if key.endswith("rank")
    }
    assert ([0], "a run") == (run.exit_codes, run.attributes["displayName"])


def test_clearml_on_a_server(tmp_path, monkeypatch):
    """A task for each rank, in one group, as in its offline mode. An HTTP stand-in is the server."""
    monkeypatch.delenv("CLEARML_OFFLINE_MODE", raising=False)
    server = ClearmlServer().start()
    try:
        said = on_server(tmp_path, "clearml", server.environment() | {"CLEARML_CACHE_DIR": str(tmp_path / "cache")})
    finally:
        server.stop()
    found = {}
    for task in server.tasks.values():
        values = [event["value"] for event in server.events if event["task"] == task["id"] and "value" in event]
        found[task["name"]] = task["status"], task["tags"], values
    tags = [f"group:{said[0]['run']}"]
    assert {
        "a run": ("completed", tags, points(0)),
        "a run rank-1": ("completed", tags, points(1)),
    } == found
