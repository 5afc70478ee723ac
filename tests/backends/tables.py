"""Map each backend to the reader of the tables in its store, with all cells as text.

The places of the stores are those of stores.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from backends import (
    aim_store,
    clearml_store,
    csv_store,
    lines_store,
    mlflow_store,
    tensorboard_store,
    trackio_store,
    wandb_store,
)
from tensorboard.util import tensor_util

Table = list[list[str]]
"""The names of the columns, and the rows."""
Point = tuple[str, int, Table]
"""Tag, step and table."""


def _csv(folder: Path) -> Iterator[Point]:
    store = next(folder.glob("runs/*/*/csv"))
    for kind, tag, step, _, path, *_ in csv_store.rows(store / "media.csv")[1:]:
        if kind == "table":
            yield tag, int(step), csv_store.rows(store / path)


def _tensorboard(folder: Path) -> Iterator[Point]:
    for tag, event, value in tensorboard_store.values(next(folder.glob("runs/*/*/tensorboard"))):
        if value is not None and value.metadata.plugin_data.plugin_name == "text":
            cells = tensor_util.make_ndarray(value.tensor)
            if cells.ndim == 2:
                yield tag, event.step, [[cell.decode() for cell in row] for row in cells]


def _trackio(folder: Path) -> Iterator[Point]:
    for database in (folder / "trackio").glob("*.db"):
        for row in trackio_store.of_run(database, "metrics", None):
            for tag, value in json.loads(row["metrics"]).items():
                if isinstance(value, dict) and value["_type"] == "trackio.table":
                    yield tag, row["step"], _table(value["_value"][0], [found.values() for found in value["_value"]])


def _wandb(folder: Path) -> Iterator[Point]:
    run = wandb_store.only(folder)
    for row in run.rows:
        for tag, value in row.items():
            if isinstance(value, dict) and value["_type"] == "table-file":
                content = json.loads((run.folder / "files" / value["path"]).read_bytes())
                yield tag, row["global_step"], _table(content["columns"], content["data"])


def _mlflow(folder: Path) -> Iterator[Point]:
    run = mlflow_store.only(folder / "mlflow.db")
    for path, facts in run.facts("table"):
        content = json.loads(run.artifacts[f"{path}.json"])
        yield facts["tag"], facts["step"], _table(content["columns"], content["data"])


def _clearml(folder: Path) -> Iterator[Point]:
    (session,) = clearml_store.sessions(folder / "clearml")
    for event in clearml_store.events(session):
        if event["type"] == "plot":
            (trace,) = json.loads(event["plot_str"])["data"]
            if trace["type"] == "table":
                rows = zip(*trace["cells"]["values"], strict=True)
                yield clearml_store.tag(event), event["iter"], _table(trace["header"]["values"], rows)


def _aim(folder: Path) -> Iterator[Point]:
    """Read the Markdown that Aim shows."""
    for point in aim_store.only(folder).points:
        if point.kind == "table":
            lines = point.value.storage["data"].load().splitlines()
            header, _, *rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
            yield point.tag, point.true_step, [header, *rows]


def _lines(folder: Path) -> Iterator[Point]:
    for tag, step, content in lines_store.tables(folder):
        yield tag, step, _table(content["columns"], content["rows"])


def _table(columns: Iterable[Any], rows: Iterable[Iterable[Any]]) -> Table:
    return [[str(cell) for cell in row] for row in (columns, *rows)]


TABLE_READERS: dict[str, Callable[[Path], Iterator[Point]]] = {
    "csv": _csv,
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "clearml": _clearml,
    "aim": _aim,
    "lines": _lines,
}
