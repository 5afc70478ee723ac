"""Read what the real wandb stored offline, as the content that the readers of the other stores return."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backends.store_content import StoreContent
from backends.wandb_store import StoredRun, runs


def by_id(folder: Path) -> dict[str, StoreContent]:
    """Return the content of each run below a WANDB_DIR. A resumed run has several folders."""
    found: dict[str, StoreContent] = {}
    for run in runs(folder):
        _add(run, found.setdefault(run.id, StoreContent()))
    return found


def _add(run: StoredRun, content: StoreContent) -> None:
    for row in run.rows:
        for key, value in _leaves(row):
            if key.startswith("_"):
                continue
            _add_value(run, content, key, row["_step"], value)
    content.params |= dict(_leaves({name: value for name, value in run.config.items() if name != "_wandb"}, empty=True))
    summary = {name: value for name, value in run.summary.items() if not name.startswith("_")}
    content.summary |= {
        name: value for name, value in _leaves(summary) if not (isinstance(value, dict) and "_type" in value)
    }
    content.tags += [tag for tag in run.tags if tag not in content.tags]
    for artifact in run.artifacts:
        if artifact.type not in ("run_table", "job"):
            content.artifacts |= {f"{artifact.name}/{path}": data for path, data in artifact.entries.items()}


def _add_value(run: StoredRun, content: StoreContent, key: str, step: int, value: Any) -> None:
    match value:
        case bool() | int() | float():
            content.scalars.append((key, step, float(value), 0.0))
        case str():
            content.texts.append((key, step, value))
        case {"_type": "histogram", "values": counts, "bins": edges}:
            content.histograms.append((key, step, tuple(map(float, edges)), (0.0, *map(float, counts))))
        case {"_type": kind, "path": path}:
            data = (run.folder / "files" / path).read_bytes()
            if kind == "image-file":
                content.images[key, step] = data
            else:
                content.counts[kind] += 1
                content.artifacts[f"{kind} {key}"] = data


def _leaves(values: dict[str, Any], prefix: str = "", *, empty: bool = False) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and "_type" not in value and (value or not empty):
            yield from _leaves(value, f"{prefix}{name}.", empty=empty)
        else:
            yield prefix + name, value


def same(value: Any) -> Any:
    """Return a value that equals itself, for NaN as well."""
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def table_of(data: bytes) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and the rows of wandb's JSON of a table."""
    content = json.loads(data)
    return content["columns"], content["data"]
