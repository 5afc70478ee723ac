"""Flyte tasks in the processes of `Elastic`, which are those of torchrun: which rank has which run, id and group.

No cluster is here. As in Elastic, each process gets the task's function as bytes, and calls it in the task's context.
"""

import re
import subprocess
import sys

import pytest
from backends import csv_store, mlflow_store, wandb_store
from backends.wandb_server import WandbServer
from distributed.launching import torchrun

from tracelet.journal.store import JournalReader

pytestmark = pytest.mark.timeout(600)

PROGRAM = """
    import json, os, pathlib, sys
    import cloudpickle, flyte
    from flyte._context import internal_ctx
    from flyte.models import ActionID, RawDataPath, TaskContext
    from flyte.report import Report
    from tracelet.integrations.flyte import get_distributed_info, get_run, get_wandb_run, track

    env = flyte.TaskEnvironment(name="elastic")
    here = str(pathlib.Path.cwd())
    rank = int(os.environ["RANK"])
    backends = os.environ["BACKENDS"].split(",")
    if "mlflow" in backends:
        import mlflow  # on a busy machine, two threads that import parts of it at the same time make it fail

    def call(mode, scope, error=None, **arguments):
        @track(backend=backends, run_mode=mode, rank_scope=scope, project="p", connect_timeout=60, **arguments)
        @env.task
        def train() -> str:
            run, native = get_run(), get_wandb_run()
            native.log({"loss": float(rank)})
            assert bool(run) == bool(native)
            if error == rank:
                raise ValueError("mine")
            return f"{type(native).__name__} {run.run_id}"

        action = ActionID(name=f"{mode}-{scope}{'-e' if error is not None else ''}", run_name="job")
        task = TaskContext(
            action=action, mode="remote", version="v", raw_data_path=RawDataPath(path=here), output_path=here,
            run_base_dir=here, report=Report(name="r"),
        )
        function = cloudpickle.loads(cloudpickle.dumps(train.func))
        with internal_ctx().replace_task_context(task):
            try:
                return function()
            except ValueError:
                return "raised"

    modes, scopes = os.environ["MODES"].split(","), os.environ["SCOPES"].split(",")
    found = {f"{mode} {scope}": call(mode, scope) for mode in modes for scope in scopes}
    if "FAILING" in os.environ:
        found["failing"] = call("new", "global", error=1)
    print(json.dumps({"rank": rank, "found": found, "info": get_distributed_info()}))
"""
# By mode and scope, the ranks that log: what follows the base in the run's id, and in its group.
TWO_NODES = {
    ("auto", "global"): {0: ("", None)},
    ("auto", "worker"): {0: ("-worker-0", None), 2: ("-worker-1", None)},
    ("shared", "global"): dict.fromkeys(range(4), ("", None)),
    ("shared", "worker"): {rank: (f"-worker-{rank // 2}", None) for rank in range(4)},
    ("new", "global"): {rank: (f"-rank-{rank}", "") for rank in range(4)},
    ("new", "worker"): {rank: (f"-worker-{rank // 2}-rank-{rank % 2}", f"-worker-{rank // 2}") for rank in range(4)},
}
ONE_NODE = {
    **{("auto", scope): {0: ("", None)} for scope in ("global", "worker")},
    **{("shared", scope): {0: ("", None), 1: ("", None)} for scope in ("global", "worker")},
    **{("new", scope): {0: ("-rank-0", ""), 1: ("-rank-1", "")} for scope in ("global", "worker")},
}
VARIABLES = {"MODES": "auto,shared,new", "SCOPES": "global,worker"}


def launched(folder, nodes, **variables):
    """Return what each rank printed: by mode and scope, the type of its run and the id."""
    variables = {"TRACELET_DIR": str(folder / "runs"), "WANDB_DIR": str(folder), "WANDB_MODE": "offline", **variables}
    return torchrun(folder, PROGRAM, nodes=nodes, **variables)


@pytest.fixture(scope="module", params=[2, 1], ids=["two nodes", "one node"])
def job(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flyte")
    uri = f"sqlite:///{folder}/m.db"
    # Two processes cannot make the tables at the same time.
    subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", uri], check=True, capture_output=True, timeout=120)
    said = launched(
        folder, request.param, BACKENDS="csv,wandb,mlflow", MLFLOW_TRACKING_URI=uri, FAILING="1", **VARIABLES
    )
    return folder, said, TWO_NODES if request.param == 2 else ONE_NODE


def base(mode, scope):
    return f"job-{mode}-{scope}"


def test_who_has_a_run_and_its_id(job):
    """A rank that does not log has a falsy run, whose methods do nothing."""
    _, said, table = job
    for (mode, scope), ranks in table.items():
        for rank, one in said.items():
            kind, _, run_id = one["found"][f"{mode} {scope}"].partition(" ")
            if rank in ranks:
                assert ("Run", base(mode, scope) + ranks[rank][0]) == (kind, run_id)
            else:
                assert ("SilentRun", "") == (kind, run_id)


def test_the_place_of_each_rank(job):
    _, said, _ = job
    world = len(said)
    for rank, one in said.items():
        expected = {"rank": rank, "local_rank": rank % 2, "world_size": world, "local_world_size": 2}
        assert {**expected, "worker_index": rank // 2, "num_workers": world // 2} == one["info"]


def expected_runs(table):
    """By id, the group and the points of each run."""
    runs = {}
    for (mode, scope), ranks in table.items():
        for rank, (end, group) in ranks.items():
            name = base(mode, scope)
            found = runs.setdefault(name + end, (None if group is None else name + group, []))
            found[1].append(float(rank))
    return runs


def test_csv(job):
    folder, _, table = job
    found = {}
    for path in (*folder.glob("runs/p/*/csv"), *folder.glob("runs/p/*/ranks/*/csv")):
        with JournalReader(path.parent) as reader:
            info, facts = reader.info(), reader.facts()
        if not info.run_id.startswith("job-new-global-e"):
            assert ("finished", 0) == (facts["status"], facts["exit_code"])
            run = found.setdefault(info.run_id, (info.group, []))
            run[1].extend(value for _, _, value, _ in csv_store.stored(path).scalars)
    assert expected_runs(table) == {run_id: (group, sorted(points)) for run_id, (group, points) in found.items()}


def test_mlflow(job):
    folder, _, table = job
    found = {}
    for run in mlflow_store.runs(folder / "m.db", folder / "mlruns"):
        run_id = run.tags["tracelet.run_id"]
        if not run_id.startswith("job-new-global-e"):
            assert "FINISHED" == run.status
            own = [(run.tag_of(key), value) for key, _, value, _ in run.metrics]
            found[run_id] = sorted(value for tag, value in own if re.fullmatch(r"(rank-\d/)?loss", tag))
    assert {run_id: points for run_id, (_, points) in expected_runs(table).items()} == found


def test_wandb_offline(job):
    """`shared` needs a server: offline, each rank has a run of its own, in the group of the run."""
    folder, _, table = job
    found = {}
    for run in wandb_store.runs(folder):
        if not run.id.startswith("job-new-global-e"):
            assert 0 == run.exit_code
            found[run.id] = (
                run.group or None,
                [value for row in run.rows for key, value in row.items() if "loss" in key],
            )
    expected = {run_id: run for run_id, run in expected_runs(table).items() if "shared" not in run_id}
    assert expected == {run_id: run for run_id, run in found.items() if "shared" not in run_id}
    shared = [(group, points) for run_id, (group, points) in found.items() if "shared" in run_id]
    for run_id, (_, points) in expected_runs(table).items():
        if "shared" in run_id:
            assert [(run_id, [point]) for point in points] == sorted(run for run in shared if run[0] == run_id)


def test_a_rank_that_raises_has_a_failed_run(job):
    """The runs of the others are finished."""
    folder, said, _ = job
    assert {rank: "raised" if rank == 1 else "Run" for rank in said} == {
        rank: one["found"]["failing"].partition(" ")[0] for rank, one in said.items()
    }
    codes = {run.id: run.exit_code for run in wandb_store.runs(folder) if run.id.startswith("job-new-global-e")}
    assert {f"job-new-global-e-rank-{rank}": int(rank == 1) for rank in said} == codes


def test_wandb_shared_at_a_server(tmp_path):
    """All ranks write to one run, or to that of their node; the first of them ends it."""
    server = WandbServer().start()
    try:
        variables = {**VARIABLES, "MODES": "shared", **server.environment()}
        said = launched(tmp_path, 2, BACKENDS="wandb", **variables)
    finally:
        server.stop()
    assert {"Run"} == {run.partition(" ")[0] for one in said.values() for run in one["found"].values()}
    found = {run_id: sorted(run.values("loss")) for run_id, run in server.runs.items()}
    table = {key: ranks for key, ranks in TWO_NODES.items() if key[0] == "shared"}
    assert {run_id: points for run_id, (_, points) in expected_runs(table).items()} == found
    assert {(0,)} == {tuple(run.exit_codes) for run in server.runs.values()}
