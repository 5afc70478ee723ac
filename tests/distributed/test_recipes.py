"""The recipes of docs/distributed.md that have a launcher of their own, with the real packages, two processes each."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tracelet.journal.store import JournalReader
from tracelet.records import Scalar
from tracelet.runs.folders import all_runs, rank_folders

DEADLINE = 240
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(2 * DEADLINE)]

ACCELERATE = """
    import torch
    import tracelet
    from accelerate import Accelerator

    tracelet.start_logging("digits", backend="csv")
    accelerator = Accelerator(log_with="tensorboard", project_dir="events", cpu=True)
    accelerator.init_trackers("digits")
    assert 2 == accelerator.num_processes
    for step in range(10):
        value = accelerator.reduce(torch.tensor(float(step + accelerator.process_index)))
        accelerator.log({"sum": value.item()}, step=step)
    accelerator.end_training()
"""
LIGHTNING = """
    import lightning as L
    import torch
    from lightning.pytorch.loggers import TensorBoardLogger
    from torch.utils.data import DataLoader, TensorDataset

    import tracelet

    tracelet.start_logging("digits", backend="csv")

    class Model(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch, index):
            loss = self.layer(batch[0]).square().mean()
            self.log("ranks", torch.tensor(float(self.trainer.world_size)))
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    data = DataLoader(TensorDataset(torch.rand(40, 4)), batch_size=2)
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, log_every_n_steps=1, enable_progress_bar=False,
        enable_checkpointing=False, logger=TensorBoardLogger("events"),
    )
    trainer.fit(Model(), data)
"""
COMMANDS = {
    "accelerate": (
        ACCELERATE,
        ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"],
    ),
    "lightning": (LIGHTNING, []),
}


def run(source: str, options: Sequence[str] = (), arguments: Sequence[str] = (), **variables: str) -> str:
    """Run a program to its end, and all that it starts."""
    Path("train.py").write_text(textwrap.dedent(source), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    program = subprocess.Popen(
        [sys.executable, *options, "train.py", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = program.communicate(timeout=DEADLINE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
    assert 0 == program.returncode, output
    return output


def runs() -> dict[str, Path]:
    return {folder.name: folder for folder in all_runs(Path(os.environ["TRACELET_DIR"]))}


def points(folder: Path) -> dict[str, list[tuple[int | None, float]]]:
    """Return the points of each series that the program logged, and check that the run is finished and delivered."""
    found: dict[str, list[tuple[int | None, float]]] = {}
    with JournalReader(folder) as reader:
        assert ("finished", 0) == (reader.facts()["status"], reader.facts()["exit_code"])
        assert [reader.last()] == [cursor.position for cursor in reader.cursors().values()]
        for record in reader.records():
            if isinstance(record, Scalar) and not record.tag.startswith("system/"):
                found.setdefault(record.tag, []).append((record.step, record.value))
    return found


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("launcher", list(COMMANDS))
def test_rank_0_has_the_run(launcher):
    source, options = COMMANDS[launcher]
    output = run(source, options)
    (folder,) = runs().values()
    assert [] == rank_folders(folder)
    found = points(folder)
    if launcher == "accelerate":
        assert {"sum": [(step, 2.0 * step + 1) for step in range(10)]} == found
    else:
        assert [(step, 2.0) for step in range(10)] == found["ranks"]
        assert 10 == len(found["loss"])
    assert 1 == output.count("tracelet: rank 1 of 2 does not log"), output


RAY_TRAIN = """
    import sys

    import ray
    import ray.train
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer


    def train(config):
        import tracelet

        with tracelet.start_logging("digits", backend="csv") as experiment:
            info = tracelet.get_distributed_info()
            assert (2, ray.train.get_context().get_world_rank()) == (info["world_size"], info["rank"])
            for step in range(10):
                experiment.log_metric("loss", 100 * info["rank"] + step, step)
        ray.train.report({"loss": 9.0})


    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
    for _ in range(int(sys.argv[1])):
        name = "night-1"
        TorchTrainer(train, scaling_config=ScalingConfig(num_workers=2), run_config=RunConfig(name=name)).fit()
"""
RAY_TUNE = """
    import ray
    from ray import tune


    def train(config):
        import tracelet

        with tracelet.start_logging("digits", backend="csv") as experiment:
            experiment.log_params(config)
            for step in range(10):
                experiment.log_metric("loss", config["x"] * step, step)
                tune.report({"loss": config["x"] * step})


    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
    space = {"x": tune.grid_search([1.0, 2.0, 3.0])}
    results = tune.Tuner(train, param_space=space, run_config=tune.RunConfig(name="search", verbose=0)).fit()
    assert not results.errors
    for result in results:
        print("TRIAL", result.metrics["trial_id"], result.config["x"])
"""


@pytest.fixture
def ray_variables() -> Iterator[dict[str, str]]:
    """Ray has its sockets in its temporary folder, so the path must be short."""
    with tempfile.TemporaryDirectory(prefix="r-") as folder:
        yield {"HOME": os.getcwd(), "RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.mark.parametrize(("mode", "ids"), [("auto", ["night-1", "night-1-2"]), ("shared", ["night-1"])])
def test_ray_train_has_one_run_for_each_training(mode, ids, ray_variables):
    """Its id is Ray's name of the training. A second training of that name is another run."""
    run(RAY_TRAIN, arguments=[str(len(ids))], TRACELET_RUN_MODE=mode, **ray_variables)
    assert set(ids) == set(runs())
    for folder in runs().values():
        assert {"loss": [(step, float(step)) for step in range(10)]} == points(folder)
        others = {"rank-1/loss": [(step, 100.0 + step) for step in range(10)]}
        assert ([others] if mode == "shared" else []) == [points(rank) for rank in rank_folders(folder)]


def test_ray_tune_has_a_run_for_each_trial(ray_variables):
    output = run(RAY_TUNE, **ray_variables)
    trials = [line.split()[1:] for line in output.splitlines() if line.startswith("TRIAL")]
    assert 3 == len(trials)
    found = {folder.name: points(folder) for folder in runs().values()}
    assert {trial: {"loss": [(step, float(x) * step) for step in range(10)]} for trial, x in trials} == found
    for folder in runs().values():
        with JournalReader(folder) as reader:
            assert "search" == reader.info().group
