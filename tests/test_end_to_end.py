"""Whole programs: everything a training script told TensorBoard, read back from each backend's own store."""

import csv
import json
import os
import signal
import struct
import textwrap
from collections import defaultdict
from pathlib import Path

import pytest
from backends import wandb_store
from programs import DEADLINE, ending, journal_values, run_program, started, the_run

from tracelet.journal.store import JournalReader

EPOCHS, BATCHES = 20, 32

# The shape of the usual tutorial: batch metrics on one axis, epoch metrics on another that begins at 0 again,
# histograms of weights and gradients, parameters before and after, a figure, files.
TRAINING = f"""
    import json, sys
    import torch
    from matplotlib.figure import Figure
    import tracelet

    library, backends = sys.argv[1:]
    config = {{"tags": ["tutorial"], "notes": "a whole run", "group": "tutorials"}}
    if "wandb" in backends:
        config["wandb"] = {{"job_type": "training"}}
    exp = tracelet.start_logging("complete", "tutorials", backends, config=config)
    if library == "torch":
        from torch.utils.tensorboard import SummaryWriter
    else:
        from tensorboardX import SummaryWriter

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    exp.log_params({{"model": {{"layers": [20, 16, 3], "dropout": 0.1}}, "optimizer.lr": 0.01}})
    points, labels = torch.randn({BATCHES * 8}, 20), torch.randint(0, 3, ({BATCHES * 8},))
    writer = SummaryWriter("logs")
    losses = []
    for epoch in range({EPOCHS}):
        total = 0.0
        for batch in range({BATCHES}):
            part = slice(batch * 8, batch * 8 + 8)
            loss = torch.nn.functional.cross_entropy(model(points[part]), labels[part])
            optimizer.zero_grad(); loss.backward(); optimizer.step()
            writer.add_scalar("batch/loss", loss.item(), epoch * {BATCHES} + batch)
            total += loss.item()
        losses.append(total / {BATCHES})
        writer.add_scalar("epoch/loss", losses[-1], epoch)
        writer.add_scalar("epoch/learning_rate", optimizer.param_groups[0]["lr"], epoch)
        for name, weight in model.named_parameters():
            writer.add_histogram(f"weights/{{name}}", weight, epoch)
            writer.add_histogram(f"gradients/{{name}}", weight.grad, epoch)
    figure = Figure()
    figure.subplots().plot(losses)
    exp.log_artifact(figure, artifact_path="plots/training_loss.png")
    torch.save(model.state_dict(), "final_model.pth")
    exp.log_artifact("final_model.pth", artifact_path="models/")
    with open("summary.json", "w") as file:
        json.dump({{"losses": losses}}, file)
    exp.log_artifact("summary.json", artifact_path="metadata/")
    exp.log_params({{"training.final_loss": losses[-1], "training.epochs_completed": len(losses)}})
    writer.close()
    tracelet.stop_logging()
    print(json.dumps(losses))
"""


def float32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


@pytest.fixture
def written(read_values):
    """`written(folder)`: scalars by tag as (step, float32), histograms by (tag, step) as (limits, counts)."""

    def read(folder):
        scalars, histograms = defaultdict(list), {}
        for event, value in read_values(folder):
            if value.HasField("simple_value"):
                scalars[value.tag].append((event.step, value.simple_value))
            elif value.HasField("histo"):
                histograms[value.tag, event.step] = (list(value.histo.bucket_limit), list(value.histo.bucket))
        return scalars, histograms

    return read


@pytest.mark.parametrize("library", ["torch", "tensorboardX"])
def test_a_complete_training_arrives_whole(library, tmp_path, written):
    """20 epochs of 32 batches: every scalar, histogram, parameter and artifact is in wandb's file and in the csv."""
    program = run_program(TRAINING, library, "wandb,csv", deadline=240)
    assert 0 == program.returncode, program.err
    losses = json.loads(program.out.splitlines()[-1])

    scalars, histograms = written(tmp_path / "logs")
    counts = {"batch/loss": EPOCHS * BATCHES, "epoch/loss": EPOCHS, "epoch/learning_rate": EPOCHS}
    assert counts == {tag: len(points) for tag, points in scalars.items()}
    assert 8 * EPOCHS == len(histograms)

    run = wandb_store.only(Path(os.environ["WANDB_DIR"]))
    in_csv = defaultdict(list)
    with open(the_run() / "csv" / "scalars.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            in_csv[row["tag"]].append((int(row["step"]), float(row["value"])))
    for tag, points in scalars.items():
        in_wandb = [(step, value) for step, value, _ in run.series(tag)]
        assert points == [(step, float32(value)) for step, value in in_wandb], tag
        assert in_wandb == in_csv[tag], tag
    assert losses == [value for _, value, _ in run.series("epoch/loss")]
    assert [0.01] * EPOCHS == [value for _, value, _ in run.series("epoch/learning_rate")]

    (lines,) = run.folder.rglob("*.jsonl")
    exact = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert histograms == {(one["tag"], one["step"]): (one["limits"], one["counts"]) for one in exact}
    for (tag, step), (_, counted) in histograms.items():
        (row,) = [row for row in run.rows if tag in row and row["global_step"] == step]
        assert sum(counted) == sum(row[tag]["values"])

    params = {"model.layers": [20, 16, 3], "model.dropout": 0.1, "optimizer.lr": 0.01}
    params |= {"training.final_loss": losses[-1], "training.epochs_completed": EPOCHS}
    assert params == {name: value for name, value in run.config.items() if name != "_wandb"}
    assert params == json.loads((the_run() / "csv" / "config.json").read_text(encoding="utf-8"))
    entries = {path: data for artifact in run.artifacts for path, data in artifact.entries.items()}
    assert {"plots/training_loss.png", "models/final_model.pth", "metadata/summary.json"} == set(entries)
    assert (tmp_path / "final_model.pth").read_bytes() == entries["models/final_model.pth"]
    assert ("tutorials", "complete", 0) == (run.project, run.name, run.exit_code)
    assert ("tutorial",) == run.tags


NEVER_STOPS = """
    import sys
    import tracelet
    from {module} import SummaryWriter

    tracelet.start_logging(backend=sys.argv[1] or None)
    writer = SummaryWriter("logs")
    for step in range(1000):
        writer.add_scalar("loss", step * 0.1, step)
    {ending}
"""
MODULES = {"torch": "torch.utils.tensorboard", "tensorboardX": "tensorboardX"}
ENDINGS = {"end": "pass", "exit": "sys.exit(3)", "error": "raise ValueError('diverged')"}
STATUS = {"end": ("finished", 0), "exit": ("failed", 3), "error": ("failed", 1)}


def stored_values(backend):
    """The values of `loss` in the backend's own store."""
    if backend == "wandb":
        return [value for _, value, _ in wandb_store.only(Path(os.environ["WANDB_DIR"])).series("loss")]
    if backend == "csv":
        with open(the_run() / "csv" / "scalars.csv", newline="", encoding="utf-8") as file:
            return [float(row["value"]) for row in csv.DictReader(file)]
    return journal_values(the_run())


@pytest.mark.parametrize("how", list(ENDINGS))
@pytest.mark.parametrize("backend", ["", "csv", "wandb"])
@pytest.mark.parametrize("library", ["torch", pytest.param("tensorboardX", marks=pytest.mark.long)])
def test_a_program_that_never_stops_its_run_is_drained(library, backend, how):
    """Whichever way the program ends, all it wrote is in the store, with the status and code it ended with."""
    source = textwrap.dedent(NEVER_STOPS).format(module=MODULES[library], ending=ENDINGS[how])
    program = run_program(source, backend)

    assert STATUS[how][1] == program.returncode, program.err
    assert [step * 0.1 for step in range(1000)] == stored_values(backend)
    assert STATUS[how] == ending(the_run())
    if backend == "wandb":
        assert STATUS[how][1] == wandb_store.only(Path(os.environ["WANDB_DIR"])).exit_code


INTERRUPTED = """
    import itertools
    import tracelet
    from torch.utils.tensorboard import SummaryWriter

    tracelet.start_logging(backend="wandb", flush_timeout=10, config={"finish_timeout": 10})
    writer = SummaryWriter("logs")
    for step in itertools.count():
        writer.add_scalar("loss", step * 0.1, step)
        if step == 500:
            print("running", flush=True)
"""


def test_ctrl_c_in_the_middle_loses_nothing(written, tmp_path):
    """Ctrl-C reaches wandb's own process as well, which may end by it: what was written until then is in the journal,
    and what is not in wandb's file waits there."""
    with started(INTERRUPTED, own_group=True) as program:
        while program.stdout.readline() != "running\n":
            assert program.poll() is None, program.stderr.read()
        os.killpg(program.pid, signal.SIGINT)
        _, told = program.communicate(timeout=2 * DEADLINE)

    assert -signal.SIGINT == program.returncode, told
    assert "KeyboardInterrupt" in told
    kept = journal_values(the_run())
    assert [step * 0.1 for step in range(len(kept))] == kept
    scalars, _ = written(tmp_path / "logs")
    assert len(scalars["loss"]) <= len(kept) + 1  # the call that the signal met: in the file, and not yet in the queue
    assert 500 < len(kept)
    runs = wandb_store.runs(Path(os.environ["WANDB_DIR"]))
    sent = [value for run in runs for _, value, _ in run.series("loss")]
    assert kept[: len(sent)] == sent
    with JournalReader(the_run()) as reader:
        delivered = reader.cursors()["wandb"].delivered
    assert delivered <= len(sent)
    assert ("pending" in told) == (delivered < len(kept))
    assert "killed" == ending(the_run())[0]
