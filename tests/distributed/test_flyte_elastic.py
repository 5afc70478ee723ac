"""Tasks with Flyte's own `Elastic` on one and two nodes: each is a process of this machine that starts two ranks.

Flyte's local mode calls such a task as one process. Here it is called as in the containers of a cluster.
"""

import contextlib
import os
import subprocess
import sys
import textwrap

import pytest
from backends import csv_store, mlflow_store, wandb_store
from backends.mlflow_server import free_port

from tracelet.journal.store import JournalReader
from tracelet.runs.folders import all_runs

pytestmark = pytest.mark.timeout(300)

PROGRAM = """
    import asyncio, os, pathlib
    import flyte
    from flyte._context import internal_ctx
    from flyte.models import ActionID, RawDataPath, TaskContext
    from flyte.report import Report
    from flyteplugins.pytorch.task import Elastic
    from tracelet.integrations.flyte import get_distributed_info, get_wandb_run, wandb_init

    limits = {"timeout": 120, "join_timeout": 120}
    elastic = Elastic(
        nproc_per_node=2, nnodes=int(os.environ["NODES"]), max_restarts=0, monitor_interval=1, rdzv_configs=limits
    )
    env = flyte.TaskEnvironment(name="elastic", plugin_config=elastic)

    @wandb_init(project="images", run_mode=os.environ["MODE"], rank_scope=os.environ["SCOPE"])
    @env.task
    def train(lr: float) -> str:
        import torch.distributed as dist

        dist.init_process_group("gloo")
        run = get_wandb_run()
        info = get_distributed_info()
        if run:
            run.log({"loss": lr * info["rank"], "worker": info["worker_index"]})
        dist.barrier()
        dist.destroy_process_group()
        if "RAISES" in os.environ and info["rank"] == 1:
            raise ValueError("mine")
        return run.id

    if __name__ == "__main__":
        here = str(pathlib.Path.cwd())
        task = TaskContext(
            action=ActionID(name="a0", run_name="job"), mode="remote", version="v",
            raw_data_path=RawDataPath(path=here), output_path=here, run_base_dir=here, report=Report(name="r"),
        )
        with internal_ctx().replace_task_context(task):
            print(asyncio.run(train.execute(lr=0.5)))
"""


def run_nodes(folder, nodes, *, fails=False, **variables):
    """Run the program once for each node. Return what they printed last."""
    script = folder / "train.py"
    script.write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    environment = {
        **os.environ,
        "NODES": str(nodes),
        "PET_RDZV_ENDPOINT": f"127.0.0.1:{free_port()}",
        "TRACELET_DIR": str(folder / "runs"),
        "TRACELET_CONNECT_TIMEOUT": "60",
        "WANDB_DIR": str(folder),
        "WANDB_MODE": "offline",
        **variables,
    }
    with contextlib.ExitStack() as undo:
        started = []
        for node in range(nodes):
            log = undo.enter_context((folder / f"node-{node}.log").open("w+"))
            process = subprocess.Popen([sys.executable, script], cwd=folder, env=environment, stdout=log, stderr=log)
            undo.callback(process.wait)
            undo.callback(process.kill)
            started.append((process, log))
        said = []
        for process, log in started:
            code = process.wait(timeout=200)
            log.seek(0)
            text = log.read()
            assert fails == (code != 0), text
            said.append(text.splitlines()[-1])
        return said


@pytest.mark.parametrize(
    ("mode", "scope", "expected"),
    [
        ("auto", "global", {"job-a0": (None, [0.0])}),
        (
            *("new", "worker"),
            {
                "job-a0-worker-0-rank-0": ("job-a0-worker-0", [0.0]),
                "job-a0-worker-0-rank-1": ("job-a0-worker-0", [0.5]),
                "job-a0-worker-1-rank-0": ("job-a0-worker-1", [1.0]),
                "job-a0-worker-1-rank-1": ("job-a0-worker-1", [1.5]),
            },
        ),
    ],
)
def test_two_nodes(mode, scope, expected, tmp_path):
    uri = f"sqlite:///{tmp_path}/m.db"
    # Two processes cannot make the tables at the same time.
    subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", uri], check=True, capture_output=True, timeout=120)
    said = run_nodes(tmp_path, 2, MODE=mode, SCOPE=scope, TRACELET_BACKEND="wandb,csv,mlflow", MLFLOW_TRACKING_URI=uri)
    assert {"None", next(iter(expected))} == set(said)  # only the node of rank 0 has its result
    journals, points = {}, {}
    for folder in all_runs(tmp_path / "runs"):
        with JournalReader(folder) as reader:
            info, facts = reader.info(), reader.facts()
        assert "finished" == facts["status"]
        values = [value for tag, _, value, _ in csv_store.stored(folder / "csv").scalars if tag == "loss"]
        journals[info.run_id] = (info.group, values)
    assert expected == journals
    for run in wandb_store.runs(tmp_path):
        points[run.id] = (run.group or None, [row["loss"] for row in run.rows if "loss" in row])
    assert expected == points
    in_mlflow = {
        run.tags["tracelet.run_id"]: [value for _, value, _ in run.series("loss")]
        for run in mlflow_store.runs(tmp_path / "m.db", tmp_path / "mlruns")
    }
    assert {run_id: values for run_id, (_, values) in expected.items()} == in_mlflow


def test_a_rank_that_raises_has_a_failed_run(tmp_path):
    """`Elastic` ends the other rank, if it is not at its end before."""
    run_nodes(tmp_path, 1, fails=True, MODE="new", SCOPE="global", RAISES="1", TRACELET_BACKEND="csv")
    ends = {}
    for folder in all_runs(tmp_path / "runs"):
        with JournalReader(folder) as reader:
            ends[folder.name] = reader.facts()["status"]
    assert "failed" == ends.pop("job-a0-rank-1")
    assert ends["job-a0-rank-0"] in ("finished", "killed")
