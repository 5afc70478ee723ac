"""A real training with DistributedDataParallel: the digits of scikit-learn, in two processes of torchrun."""

import os
import signal
import time
from pathlib import Path

import pytest
from backends import csv_store, tensorboard_store
from distributed.launching import DEADLINE, launched, logged, outputs, torchrun

from tracelet.journal.store import JournalReader
from tracelet.runs.folders import all_runs, rank_folders

pytestmark = pytest.mark.timeout(2 * DEADLINE)

TRAINING = """
    import json, os, sys, time
    import torch
    import torch.distributed as dist
    from sklearn.datasets import load_digits
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.tensorboard import SummaryWriter

    import tracelet

    experiment = tracelet.start_logging("digits", backend="csv")  # the one line

    restart, rank, ranks = (int(os.environ[name]) for name in ("TORCHELASTIC_RESTART_COUNT", "RANK", "WORLD_SIZE"))
    # By a file: after a restart, gloo met the addresses of the first start in torchrun's own store.
    dist.init_process_group("gloo", f"file://{os.getcwd()}/store-{restart}", rank=rank, world_size=ranks)
    torch.manual_seed(0)
    pictures, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    pictures = pictures.float() / 16
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
    optimizer = torch.optim.Adam(model.parameters())
    with SummaryWriter(f"events/{rank}-{restart}") as writer:
        for step in range(int(os.environ.get("STEPS", 40))):
            batch = torch.arange(rank, len(labels), dist.get_world_size())[step * 20 % 800 :][:20]
            loss = nn.functional.cross_entropy(model(pictures[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            writer.add_scalar("loss", loss, step)
            if rank == 0 and os.environ.get("FAIL") == f"{restart} {step}":
                raise RuntimeError("a broken GPU")
            if "SLOW" in os.environ:
                print(step, flush=True)
                time.sleep(0.05)
    print(json.dumps({"rank": rank}), flush=True)
    dist.destroy_process_group()
"""


def series(path: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for tag, step, value, _ in csv_store.stored(path / "csv").scalars:
        found.setdefault(tag, []).append((step, value))
    return found


def in_events(folder: Path) -> list[tuple[int, float]]:
    return [(event.step, value.simple_value) for _, event, value in tensorboard_store.values(folder) if value]


def the_run() -> Path:
    (run,) = all_runs(Path(os.environ["TRACELET_DIR"]))
    return run


def status(folder: Path) -> tuple[str, int]:
    with JournalReader(folder) as reader:
        return reader.facts()["status"], reader.facts()["exit_code"]


def rounded(points):
    """Event files hold float32."""
    return [(step, pytest.approx(value, rel=1e-6)) for step, value in points]


def test_rank_0_has_the_run(tmp_path):
    torchrun(tmp_path, TRAINING, nodes=1)
    assert ({"loss"}, 40) == (set(series(the_run())), len(series(the_run())["loss"]))
    assert rounded(series(the_run())["loss"]) == in_events(tmp_path / "events" / "0-0")
    assert 40 == len(in_events(tmp_path / "events" / "1-0"))
    assert ([], ("finished", 0)) == (rank_folders(the_run()), status(the_run()))


def test_all_ranks_share_the_run(tmp_path):
    torchrun(tmp_path, TRAINING, nodes=1, TRACELET_RUN_MODE="shared")
    (rank,) = rank_folders(the_run())
    assert rounded(series(the_run())["loss"]) == in_events(tmp_path / "events" / "0-0")
    assert rounded(series(rank)["rank-1/loss"]) == in_events(tmp_path / "events" / "1-0")
    assert series(the_run())["loss"] != series(rank)["rank-1/loss"]


@pytest.mark.parametrize("mode", ["auto", "shared"])
def test_preemption_loses_nothing(tmp_path, mode):
    """torchrun passes SIGTERM on to its ranks. What each logged until then is there, and the run was killed."""
    with launched(tmp_path, TRAINING, SLOW="yes", STEPS="100000", TRACELET_RUN_MODE=mode) as (launcher,):
        deadline = time.monotonic() + DEADLINE
        while not (len(printed := outputs(tmp_path)) == 2 and all(text.count("\n") > 20 for text in printed)):
            assert launcher.poll() is None, logged(tmp_path)
            assert time.monotonic() < deadline, logged(tmp_path)
            time.sleep(0.1)
        launcher.send_signal(signal.SIGTERM)
        launcher.communicate(timeout=DEADLINE)
    steps = [len(text.splitlines()) for text in outputs(tmp_path)]
    assert ("killed", 143) == status(the_run())
    assert [step for step, _ in series(the_run())["loss"]][: steps[0]] == list(range(steps[0]))
    for rank in rank_folders(the_run()):
        assert ("killed", 143) == status(rank)
        assert [step for step, _ in series(rank)["rank-1/loss"]][: steps[1]] == list(range(steps[1]))
    assert (mode == "shared") == bool(rank_folders(the_run()))


@pytest.mark.parametrize("mode", ["auto", "shared"])
def test_an_elastic_restart_goes_on_with_the_run(tmp_path, mode):
    """Rank 0 fails at its tenth step. torchrun ends the others and starts all again."""
    with launched(tmp_path, TRAINING, "--max-restarts", "1", FAIL="0 9", TRACELET_RUN_MODE=mode) as (launcher,):
        _, errors = launcher.communicate(timeout=DEADLINE)
    assert 0 == launcher.returncode, errors + logged(tmp_path)
    assert ("finished", 0) == status(the_run())
    assert [*range(10), *range(40)] == [step for step, _ in series(the_run())["loss"]]
    for rank in rank_folders(the_run()):
        assert list(range(40)) == [step for step, _ in series(rank)["rank-1/loss"]][-40:]
    assert (mode == "shared") == bool(rank_folders(the_run()))
