"""Read a csv folder with the standard library alone."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

from backends.store_content import StoreContent


def rows(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file, header first; none if there is no file."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines; none if there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]] if path.exists() else []


def _object(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def stored(folder: Path) -> StoreContent:
    """Return the content of the run's folder."""
    media = rows(folder / "media.csv")[1:]
    merged = {name: _object(folder / name) for name in ("config.json", "summary.json", "run.json")}
    files = [file for artifact in lines(folder / "artifacts.jsonl") for file in artifact["files"]]
    counts = Counter(row[0] for row in media)
    counts["pr_curve"] = len(lines(folder / "pr_curves.jsonl"))
    return StoreContent(
        scalars=[
            (tag, int(step), float(value), float(wall_time))
            for tag, step, wall_time, value in rows(folder / "scalars.csv")[1:]
        ],
        params=merged["config.json"],
        texts=[(text["tag"], text["step"], text["text"]) for text in lines(folder / "texts.jsonl")],
        images={
            (tag, int(step)): (folder / path).read_bytes() for kind, tag, step, _, path, _ in media if kind == "image"
        },
        histograms=[
            (histogram["tag"], histogram["step"], tuple(histogram["limits"]), tuple(histogram["counts"]))
            for histogram in lines(folder / "histograms.jsonl")
        ],
        summary=merged["summary.json"],
        tags=merged["run.json"]["tags"],
        alerts=[(alert["title"], alert["text"], alert["level"]) for alert in lines(folder / "alerts.jsonl")],
        artifacts={file["name"]: (folder / file["path"]).read_bytes() for file in files},
        counts=counts,
    )
