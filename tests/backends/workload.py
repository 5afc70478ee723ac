"""Log every kind of record, with names that are awkward for the vendors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from capture.tensorboard.calls import CALLS

from tracelet.experiment.experiment import Experiment
from tracelet.testing.contract import Point
from tracelet.testing.samples import AWKWARD_FLOATS, AWKWARD_TAGS

WALL_TIME = 1_700_000_000.25
STEPS = (0, 10**12, 5, 5, 4, None, 7, -3, 2**63 - 1)
# Names that become equal if the same sign replaces all characters but letters.
COLLIDING = ("a b", "a@b", "a_b", "a(b)", "a[b]", "a%40b", "a=b", "a,b", "a'b", "a\\b")
NAMES = (*COLLIDING, "loss (train)", "acc@5", "日本/é \U0001f680", "../x", "/a//b/", "x" * 300, "x" * 299 + "y")
# Without the methods that only tensorboardX has.
TORCH_METHODS = [name for name in CALLS if name not in ("add_onnx_graph", "add_openvino_graph", "add_image_with_boxes")]


def log_everything(experiment: Experiment, folder: Path) -> list[Point]:
    """Log with two of torch's writers and the experiment, with files in `folder`. Return the writers' scalars."""
    from torch.utils.tensorboard import SummaryWriter

    scalars: list[Point] = []
    with SummaryWriter(folder / "logs") as writer, SummaryWriter(folder / "logs" / "val") as below:

        def log(tag: str, value: float, step: int | None) -> None:
            scalars.append((tag, step or 0, float(value), WALL_TIME + len(scalars) / 4))
            writer.add_scalar(tag, value, step, walltime=scalars[-1][-1])

        for number, tag in enumerate(dict.fromkeys((*AWKWARD_TAGS, *NAMES))):
            log(tag, number / 3, number)
        for number, value in enumerate(AWKWARD_FLOATS):
            log("floats", value, number)
        for number, step in enumerate(STEPS):
            log("steps", number / 7, step)
        for value in (0.5, 0.5, 0.25):
            log("repeated", value, 1)
        for number in range(2500):
            log(f"wide/m{number}", number / 2, 1)
        for step in range(500):
            log("long", math.sin(step), step)
        for step in range(5):
            scalars.append(("val/floats", step, step / 9, WALL_TIME + step))
            below.add_scalar("floats", step / 9, step, walltime=WALL_TIME + step)
        _log_media(writer, below)
        for name in TORCH_METHODS:
            CALLS[name][0](writer, folder)
        writer._get_file_writer().add_summary(_unknown_plugin(), 3, WALL_TIME)
        _log_to_experiment(experiment, folder)
    return scalars


def _log_media(writer: Any, below: Any) -> None:
    generator = np.random.default_rng(0)
    for number, tag in enumerate(NAMES):
        writer.add_image(tag, np.full((3, 4, 4), number / 32), number, walltime=WALL_TIME)
        writer.add_text(f"{tag} ", f"text {number}: «ü» | a,b\n```x```", number, walltime=WALL_TIME)
        writer.add_histogram(f"{tag}#", generator.standard_normal(50), number, walltime=WALL_TIME)
    below.add_image("picture", np.ones((3, 4, 4)), 1, walltime=WALL_TIME)
    for step in range(3):
        # Exponential edges over the whole range of floats: more of them than any vendor draws.
        values = np.concatenate([[-1e300, -1e-12, 0.0, 1e-12, 1e300], generator.standard_normal(10_000) * 10**step])
        writer.add_histogram("weights", values, step, walltime=WALL_TIME + step)


def _log_to_experiment(experiment: Experiment, folder: Path) -> None:
    experiment.log_params({"model": {"layers": [20, 16], "dropout": 0.1, "name": None}, "debug": True, "steps": 10})
    experiment.log_params({**{name: number for number, name in enumerate(NAMES)}, "long": "x" * 20_000})
    experiment.log_params({"debug": False, "model.dropout": 0.2, "inf": math.inf, "empty": "", "text": "0.1"})
    experiment.summary["best"] = 0.5
    experiment.summary.update({"best": 1 / 3, "val": {"f1": 2**53, "why": "patience"}, "done": True, "none": None})
    experiment.summary.update({"bound": math.inf, "classes": ["a", "b"], "a@b (c)": -1.5, "nan": math.nan})
    experiment.add_tags("baseline", "two words", "é")
    experiment.add_tags("baseline", "a@b")
    experiment.alert("loss (val) is NaN", "at step 7\n«ü», a,b", "error")
    experiment.alert("done")
    experiment.alert("done", level="warning")
    experiment.log_table("scores", [["a", 0.1], ["b", math.nan]], 2, columns=["name", "score"])
    source = folder / "source.bin"
    for number, path in enumerate(
        ("plots/loss (train).png", "päth/日本.bin", "a@b.bin", "a_b.bin", "a b.bin", "empty.bin")
    ):
        source.write_bytes(bytes([number]) * number * 100 if path != "empty.bin" else b"")
        experiment.log_artifact(source, path)
    (folder / "model" / "layers").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "layers" / "0.bin").write_bytes(b"weights")
    experiment.log_artifact(folder / "model", "models/")


def _unknown_plugin() -> Any:
    """Return a summary of an unknown plugin."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata

    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="foreign", content=b"\0\1"))
    return Summary(value=[Summary.Value(tag="foreign", metadata=metadata)])
