"""Two nodes of two processes under torchrun: the runs, ids, groups and statuses that each store has.

ClearML and wandb record offline, MLflow and Aim on a real server, and the others in files.
"""

import json
from collections.abc import Iterator

import pytest
from backends import aim_store, clearml_store, csv_store, mlflow_store, tensorboard_store, trackio_store, wandb_store
from backends.aim_server import Server as AimServer
from backends.mlflow_server import Server as MlflowServer
from backends.mlflow_server import running
from distributed.launching import logged, torchrun

from tracelet.journal.store import JournalReader

pytestmark = pytest.mark.timeout(900)
STEPS = 20

PROGRAM = """
    import json, os, sys
    import tracelet

    backends = os.environ["BACKENDS"].split(",")
    experiment = tracelet.start_logging(
        "a run", "ranks", backends, config=json.loads(os.environ["CONFIG"]), connect_timeout=120, flush_timeout=120
    )
    rank = int(os.environ["RANK"])
    experiment.log_params({"run": experiment.run_id, "rank": rank})
    for step in range(20):
        experiment.log_metric("loss", 100 * rank + step / 4, step)
    experiment.stop()
    vendors = [name for name in ("mlflow", "wandb", "clearml", "aim", "trackio") if name in sys.modules]
    print(json.dumps({"rank": rank, "is_silent": not experiment, "run": experiment.run_id, "vendors": vendors}))
"""
BACKENDS = ("csv", "tensorboard", "trackio", "wandb", "mlflow", "clearml", "aim")
# By mode and scope, the ranks that log: what follows the base id in the run's id, and in its group.
TABLE = {
    ("auto", "global"): {0: ("", None)},
    ("auto", "worker"): {0: ("-worker-0", None), 2: ("-worker-1", None)},
    ("new", "global"): {rank: (f"-rank-{rank}", "") for rank in range(4)},
    ("new", "worker"): {
        0: ("-worker-0-rank-0", "-worker-0"),
        1: ("-worker-0-rank-1", "-worker-0"),
        2: ("-worker-1-rank-0", "-worker-1"),
        3: ("-worker-1-rank-1", "-worker-1"),
    },
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[tuple[MlflowServer, AimServer]]:
    from aim.sdk.repo import Repo

    folder = tmp_path_factory.mktemp("servers")
    Repo.from_path(str(folder), init=True)
    with running(folder) as mlflow_server:
        aim_server = AimServer(folder)
        try:
            yield mlflow_server, aim_server
        finally:
            aim_server.end()


def launched(folder, mode, scope, servers, **variables):
    """Run a job in a folder. Return what each rank said."""
    mlflow_server, aim_server = servers
    return torchrun(
        folder,
        PROGRAM,
        HOME=str(folder),
        TRACELET_RUN_MODE=mode,
        TRACELET_RANK_SCOPE=scope,
        TRACELET_DIR=str(folder / "runs"),
        BACKENDS=",".join(BACKENDS),
        CONFIG=json.dumps({"mlflow": {"backend_url": mlflow_server.url}, "aim": {"backend_url": aim_server.url}}),
        WANDB_MODE="offline",
        WANDB_SILENT="true",
        WANDB_DIR=str(folder),
        CLEARML_OFFLINE_MODE="1",
        CLEARML_CACHE_DIR=str(folder / "clearml"),
        TRACKIO_DIR=str(folder / "trackio"),
        MLFLOW_DISABLE_TELEMETRY="true",
        **variables,
    )


@pytest.fixture(params=list(TABLE), ids="-".join, scope="module")
def job(request, servers, tmp_path_factory):
    """One job: its mode and scope, its folder, its base id, and what each rank said."""
    folder = tmp_path_factory.mktemp("job")
    said = launched(folder, *request.param, servers)
    (first, *_) = TABLE[request.param].items()
    base = said[first[0]]["run"].removesuffix(first[1][0])
    return request.param, folder, base, said


def expected(job):
    """The runs that the table names: each id, with its group and the points of its rank."""
    place, _, base, _ = job
    return {
        base + suffix: (None if group is None else base + group, [100 * rank + step / 4 for step in range(STEPS)])
        for rank, (suffix, group) in TABLE[place].items()
    }


def test_ranks_that_do_not_log_are_silent(job):
    place, folder, _, said = job
    assert set(range(4)) - set(TABLE[place]) == {rank for rank, one in said.items() if one["is_silent"]}
    for rank, one in said.items():
        assert one["is_silent"] == (one["run"] == "" and one["vendors"] == []), rank
        assert one["is_silent"] == (f"tracelet: rank {rank} of 4 does not log" in logged(folder))


def test_each_run_has_a_journal(job):
    found = {}
    for folder in (job[1] / "runs").glob("*/*/journal.db"):
        with JournalReader(folder.parent) as reader:
            info, facts = reader.info(), reader.facts()
            points = [record.value for record in reader.records() if hasattr(record, "value")]
        assert ("finished", 0) == (facts["status"], facts["exit_code"])
        assert folder.parent.name == info.run_id
        found[info.run_id] = info.group, points
    assert expected(job) == found


def test_csv(job):
    found = {}
    for folder in (job[1] / "runs").glob("*/*/csv"):
        content = csv_store.stored(folder)
        found[content.params["run"]] = [value for _, _, value, _ in content.scalars]
    assert {run: points for run, (_, points) in expected(job).items()} == found


def test_tensorboard(job):
    found = {}
    for folder in (job[1] / "runs").glob("*/*/tensorboard"):
        found[folder.parent.name] = [value for _, _, value, _ in tensorboard_store.stored(folder).scalars]
    assert {run: points for run, (_, points) in expected(job).items()} == found


def test_trackio(job):
    found = {}
    for database in (job[1] / "trackio").glob("*.db"):
        for row in trackio_store.rows(database, "SELECT run_id, config FROM configs"):
            config = json.loads(row["config"])
            content = trackio_store.stored(job[1] / "trackio", row["run_id"])
            found[config["run"]] = config.get("_Group"), [value for _, _, value, _ in content.scalars]
    assert expected(job) == found


def test_wandb(job):
    found = {}
    for run in wandb_store.runs(job[1]):
        assert 0 == run.exit_code
        assert run.id == run.config["run"]
        found[run.id] = run.group or None, [row["loss"] for row in run.rows if "loss" in row]
    assert expected(job) == found


def test_mlflow(job, servers):
    found = {}
    for run in mlflow_store.runs(servers[0].database, servers[0].artifacts):
        if run.params["run"].startswith(job[2]):
            assert ("FINISHED", run.params["run"]) == (run.status, run.tags["tracelet.run_id"])
            found[run.params["run"]] = run.tags.get("group"), [value for _, _, value, _ in run.metrics]
    assert expected(job) == found


def test_clearml(job):
    found = {}
    for session in clearml_store.sessions(job[1] / "clearml"):
        task, points = clearml_store.description(session), []
        for event in clearml_store.events(session):
            points += [event["value"]] if event["type"] == "training_stats_scalar" else []
        groups = [tag.removeprefix("group:") for tag in task.get("tags") or () if tag.startswith("group:")]
        run = task["hyperparams"]["General"]["run"]["value"]
        found[run] = groups[0] if groups else None, points
    assert expected(job) == found


def test_aim(job, servers):
    found = {}
    for run in aim_store.runs(servers[1].repo):
        about = run.attributes["tracelet"]
        if about["run_id"].startswith(job[2]):
            assert run.ended
            assert "finished" == about["status"]
            assert about["run_id"] == run.attributes["hparams"]["run"]
            found[about["run_id"]] = about.get("group"), [value for _, value, _ in run.series("loss")]
    assert expected(job) == found
