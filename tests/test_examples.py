"""The examples run as they are, from an empty folder, without an account or a server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from backends.faults import journalled
from backends.stores import READERS

from tracelet.records import Scalar
from tracelet.runs import report
from tracelet.runs.folders import all_runs
from tracelet.runs.report import RunReport

EXAMPLES = Path(__file__).parent.parent / "examples"


def run_example(name: str, folder: Path, *arguments: str) -> tuple[str, RunReport]:
    """What the example printed, and the one run that it left below demo/runs."""
    folder.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TRACELET_", "WANDB_"))}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=folder,
        env=kept | {"PYTHONIOENCODING": "utf-8", "TRACELET_COLLECT": "none", "TRACELET_FLUSH_TIMEOUT": "120"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    (run,) = all_runs(folder / "demo" / "runs")
    return done.stdout, report.read(run)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_is_tested_by_name(name):
    """A new example needs a test of its own here."""
    assert f'run_example("{name}", folder' in Path(__file__).read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where an example runs; not there yet."""
    return tmp_path / "checkout"


def test_digits(folder):
    """The demo learns, keeps everything that it told TensorBoard, shows it, and writes below ./demo alone."""
    printed, found = run_example("digits.py", folder)

    assert ["demo"] == os.listdir(folder)
    assert (folder / "demo" / "digits.png").read_bytes().startswith(b"\x89PNG")
    assert list((folder / "demo" / "tensorboard").rglob("events.out.tfevents.*"))
    assert "finished" == found.summary.status
    (csv,) = found.summary.backends
    assert (found.summary.records, 0, 0) == (csv.delivered, csv.pending, csv.rejected)
    assert {"train/loss", "train/learning_rate", "val/loss", "val/accuracy", "train/result/accuracy"} == set(
        found.scalars
    )
    assert found.scalars["val/accuracy"].last > 0.9
    assert {"lr", "batch", "epochs"} == set(found.params)
    assert {"text", "image", "histogram"} == set(found.others)
    assert "Plot: demo/digits.png" in printed
    assert all(name in printed for name in found.scalars)


def test_wandb_offline(folder):
    """The whole program's records are in wandb's offline run, ready for `wandb sync`."""
    _, found = run_example("wandb_offline.py", folder)

    assert ["demo"] == os.listdir(folder)
    assert 1 == len(list((folder / "demo" / "wandb").glob("offline-run-*/run-*.wandb")))
    (wandb,) = found.summary.backends
    assert ("wandb", 0) == (wandb.name, wandb.rejected)
    assert {"batch/loss", "epoch/loss"} == set(found.scalars)
    assert found.scalars["epoch/loss"].last < found.scalars["epoch/loss"].first / 2
    assert {"plots/loss.png", "models/model.pt", "summaries/summary.json"} == set(found.artifacts)
    assert 3589 == found.params["result.parameters"]


@pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=() if name in ("csv", "mlflow") else pytest.mark.long) for name in READERS]
)
def test_any_backend(backend, folder, monkeypatch):
    """One word changed: the same curves, point for point, in each vendor's own store."""
    monkeypatch.setenv("CLEARML_CACHE_DIR", str(folder / "demo" / "clearml"))
    monkeypatch.setenv("TRACKIO_DIR", str(folder / "demo" / "trackio"))
    monkeypatch.delenv("WANDB_DIR")
    _, found = run_example("any_backend.py", folder, "--backend", backend)

    assert ["demo"] == os.listdir(folder)
    (delivered,) = found.summary.backends
    assert (backend, 481, 0, 0) == (delivered.name, delivered.delivered, delivered.pending, delivered.rejected)
    said, held = defaultdict(list), defaultdict(list)
    (run,) = all_runs(folder / "demo" / "runs")
    for record in journalled(run):
        if isinstance(record, Scalar):
            said[record.tag].append((record.step, record.value))
    for tag, step, value, _ in READERS[backend](folder / "demo").scalars:
        held[tag].append((step, value))
    assert {"loss": 400, "val/loss": 40} == {tag: len(points) for tag, points in said.items()}
    assert said == {tag: sorted(points) for tag, points in held.items()}
