"""What a csv folder holds, read with the standard library alone."""

import csv
import json
from collections import Counter

from tracelet.testing import Stored


def rows(path):
    """The rows of a CSV file, its header first; none where there is no file."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def lines(path):
    """The objects of a file of JSON lines; none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]] if path.exists() else []


def _object(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def stored(folder):
    """The run in neutral words."""
    media = rows(folder / "media.csv")[1:]
    merged = {name: _object(folder / name) for name in ("config.json", "summary.json", "run.json")}
    files = [file for one in lines(folder / "artifacts.jsonl") for file in one["files"]]
    return Stored(
        scalars=[
            (tag, int(step), float(value), float(wall_time))
            for tag, step, wall_time, value in rows(folder / "scalars.csv")[1:]
        ],
        params=merged["config.json"],
        texts=[(one["tag"], one["step"], one["text"]) for one in lines(folder / "texts.jsonl")],
        images={
            (tag, int(step)): (folder / path).read_bytes() for kind, tag, step, _, path, _ in media if kind == "image"
        },
        histograms=[
            (one["tag"], one["step"], tuple(one["limits"]), tuple(one["counts"]))
            for one in lines(folder / "histograms.jsonl")
        ],
        summary=merged["summary.json"],
        tags=merged["run.json"]["tags"],
        alerts=[(one["title"], one["text"], one["level"]) for one in lines(folder / "alerts.jsonl")],
        artifacts={file["name"]: (folder / file["path"]).read_bytes() for file in files},
        counts=Counter(row[0] for row in media) | {"pr_curve": len(lines(folder / "pr_curves.jsonl"))},
    )
