"""Call each public add_* of the two libraries once, with the same data at every call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from tracelet.records import Record

STEP, WALL_TIME = 3, 1_700_000_000.25


def _gradient(*shape: int) -> npt.NDArray[np.float32]:
    return np.linspace(0.0, 1.0, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def figure(color: str = "red") -> Any:
    from matplotlib.figure import Figure

    square = Figure(figsize=(1, 1), dpi=20)
    square.add_axes((0, 0, 1, 1)).set_facecolor(color)
    return square


def onnx_model(folder: Path) -> str:
    """Write a model that adds its input to itself, and return its path."""
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "twice", ends[:1], ends[1:])
    path = folder / "twice.onnx"
    save(helper.make_model(graph), path)
    return str(path)


def openvino_model(folder: Path) -> str:
    path = folder / "model.xml"
    path.write_text(
        "<net><layers><layer id='0' name='in'/><layer id='1' name='out'/></layers>"
        "<edges><edge from-layer='0' to-layer='1'/></edges></net>"
    )
    return str(path)


def model() -> tuple[Any, Any]:
    """Return a torch module that adds its input to itself, and an input."""
    import torch

    class Twice(torch.nn.Module):  # type: ignore[misc]  # mypy skips torch
        def forward(self, x: Any) -> Any:
            return x + x

    return Twice(), torch.ones(2)


def _at(**more: Any) -> dict[str, Any]:
    return {"global_step": STEP, "walltime": WALL_TIME, **more}


def _pr_rows() -> list[npt.NDArray[np.float64]]:
    return [np.arange(4.0) + row for row in range(6)]


VERTICES = [[1.0, 1.0, 1.0], [-1.0, -1.0, 1.0], [1.0, -1.0, -1.0]]
COLORS = [[255.0, 0.0, 0.0], [0.0, 255.0, 0.0], [0.0, 0.0, 255.0]]
FACES = [[0.0, 2.0, 1.0]]

Tags: TypeAlias = list[tuple[str, str | None]]
"""(kind, tag) of each record."""

# Each method: its call with a writer and a folder for files, and its records. Metrics of add_hparams are in `hp`.
CALLS: dict[str, tuple[Callable[[Any, Path], object], Tags]] = {
    "add_scalar": (lambda w, d: w.add_scalar("loss", 0.1, **_at()), [("scalar", "loss")]),
    "add_scalars": (
        lambda w, d: w.add_scalars("both", {"a": 0.1, "b": 0.2}, **_at()),
        [("scalar", "both/a"), ("scalar", "both/b")],
    ),
    "add_tensor": (lambda w, d: w.add_tensor("tensor", model()[1], **_at()), [("tensor", "tensor")]),
    "add_histogram": (lambda w, d: w.add_histogram("h", _gradient(100), **_at()), [("histogram", "h")]),
    "add_histogram_raw": (
        lambda w, d: w.add_histogram_raw("raw", 0.5, 2.5, 3, 4.5, 8.0, [1.0, 2.0, 3.0], [1, 0, 2], **_at()),
        [("histogram", "raw")],
    ),
    "add_image": (lambda w, d: w.add_image("image", _gradient(3, 4, 5), **_at()), [("image", "image")]),
    "add_images": (lambda w, d: w.add_images("images", _gradient(4, 3, 4, 5), **_at()), [("image", "images")]),
    "add_image_with_boxes": (
        lambda w, d: w.add_image_with_boxes("boxes", _gradient(3, 9, 9), np.array([[1, 1, 5, 5]]), **_at()),
        [("image", "boxes")],
    ),
    "add_figure": (lambda w, d: w.add_figure("figure", figure(), **_at()), [("image", "figure")]),
    "add_video": (lambda w, d: w.add_video("video", _gradient(1, 3, 3, 8, 8), **_at()), [("video", "video")]),
    "add_audio": (lambda w, d: w.add_audio("audio", _gradient(50), **_at()), [("audio", "audio")]),
    "add_text": (lambda w, d: w.add_text("text", "some *words*", **_at()), [("text", "text")]),
    "add_onnx_graph": (lambda w, d: w.add_onnx_graph(onnx_model(d)), [("graph", "graph")]),
    "add_openvino_graph": (lambda w, d: w.add_openvino_graph(openvino_model(d)), [("graph", "graph")]),
    "add_graph": (lambda w, d: w.add_graph(*model()), [("graph", "graph")]),
    "add_embedding": (
        lambda w, d: w.add_embedding(
            _gradient(4, 3), ["a", "b", "c", "d"], model()[1].new_ones(4, 3, 6, 6), STEP, "points"
        ),
        [("embedding", "points")],
    ),
    "add_pr_curve": (
        lambda w, d: w.add_pr_curve("pr", np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.6, 0.7]), **_at()),
        [("pr_curve", "pr")],
    ),
    "add_pr_curve_raw": (
        lambda w, d: w.add_pr_curve_raw("pr_raw", *_pr_rows(), num_thresholds=4, **_at()),
        [("pr_curve", "pr_raw")],
    ),
    "add_custom_scalars_multilinechart": (
        lambda w, d: w.add_custom_scalars_multilinechart(["a", "b"], "kind", "lines"),
        [("layout", "custom_scalars__config__")],
    ),
    "add_custom_scalars_marginchart": (
        lambda w, d: w.add_custom_scalars_marginchart(["a", "b", "c"], "kind", "margin"),
        [("layout", "custom_scalars__config__")],
    ),
    "add_custom_scalars": (
        lambda w, d: w.add_custom_scalars({"kind": {"chart": ["Multiline", ["a", "b"]]}}),
        [("layout", "custom_scalars__config__")],
    ),
    "add_mesh": (
        lambda w, d: w.add_mesh(
            "mesh", *(model()[1].new_tensor(rows)[None] for rows in (VERTICES, COLORS, FACES)), {"a": 1}, **_at()
        ),
        [("mesh", "mesh")],
    ),
    "add_hparams": (
        lambda w, d: _hparams(w, {"lr": 0.1, "layers": 3, "name": "net", "bias": True}, {"acc": 0.9, "f1": 0.8}),
        [("params", None), ("scalar", "hp/acc"), ("scalar", "hp/f1")],
    ),
}


def _hparams(writer: Any, values: dict[str, Any], metrics: dict[str, float]) -> None:
    name = "name" if type(writer).__module__.startswith("tensorboardX") else "run_name"
    writer.add_hparams(values, metrics, **{name: "hp"}, global_step=STEP)


def public_methods(lib: Any) -> list[str]:
    """Return the names of the library's public add_* methods."""
    return [name for name in vars(lib.SummaryWriter) if name.startswith("add_")]


def make(name: str, writer: Any, folder: Path) -> None:
    """Call the method `name` of `writer`. Files that it reads are written to `folder`."""
    CALLS[name][0](writer, folder)


def timeless(records: Iterable[Record]) -> list[str]:
    """Return records as text, without the paths of their files, and without a wall time other than `WALL_TIME`."""
    comparable = [
        record if record.wall_time == WALL_TIME else msgspec.structs.replace(record, wall_time=0.0)
        for record in records
    ]
    return [re.sub(r"path='[^']*'", "", repr(record)) for record in comparable]


def expected_records(name: str) -> Tags:
    """Return (kind, tag) of each record of the call."""
    return CALLS[name][1]
