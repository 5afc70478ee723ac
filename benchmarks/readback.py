"""How many records each store really holds; none of these readers shares code with an adapter."""

from __future__ import annotations

import csv
import json
import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

WANDB_HEADER, WANDB_BLOCK = 7, 32 * 1024


def event_files(folder: Path) -> int:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    paths = (folder / "events").rglob("events.out.tfevents.*")
    return sum(len(event.summary.value) for path in paths for event in EventFileLoader(str(path)).Load())


def journal(folder: Path) -> int:
    import msgspec

    (path,) = folder.glob("runs/*/*/journal.db")
    with sqlite3.connect(path) as database:
        blobs = database.execute("SELECT data FROM batches ORDER BY first").fetchall()
    return sum(len(msgspec.msgpack.decode(blob)) for (blob,) in blobs)


def csv_files(folder: Path) -> int:
    (store,) = folder.glob("runs/*/*/csv")
    with open(store / "scalars.csv", newline="", encoding="utf-8") as file:
        scalars = sum(1 for _ in csv.DictReader(file))
    with open(store / "media.csv", newline="", encoding="utf-8") as file:
        media = sum((store / row["path"]).is_file() for row in csv.DictReader(file))
    histograms = len((store / "histograms.jsonl").read_text(encoding="utf-8").splitlines())
    return scalars + media + histograms


def wandb_file(folder: Path) -> int:
    """Values of history rows that the workload logged, whatever the row layout."""
    return sum(
        1
        for path in folder.glob("wandb/offline-run-*/run-*.wandb")
        for row in wandb_rows(path)
        for key in row
        if key in ("loss", "warm", "weights", "picture")
    )


def wandb_rows(path: Path) -> Iterator[set[str]]:
    from wandb.proto.wandb_internal_pb2 import Record

    for payload in _leveldb_log(path.read_bytes()):
        record = Record.FromString(payload)
        if record.HasField("history"):
            # A picture or histogram is a dict, which wandb spreads over several items of one first key.
            yield {item.nested_key[0] if item.nested_key else item.key for item in record.history.item}


def _leveldb_log(data: bytes) -> Iterator[bytes]:
    position, parts = WANDB_HEADER, []
    while position + 7 <= len(data):
        left = WANDB_BLOCK - position % WANDB_BLOCK
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        parts.append(data[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []


READERS: dict[str, Callable[[Path], int]] = {
    "plain": event_files,
    "journal": journal,
    "csv": csv_files,
    "wandb": wandb_file,
    "sync": wandb_file,
}


def points(vendor: str, folder: Path) -> int:
    """How many points of `loss` there are anywhere below `folder`, by whatever means they came there."""
    return _POINTS[vendor](folder)


def _csv_points(folder: Path) -> int:
    found = 0
    for path in folder.rglob("scalars.csv"):
        with open(path, newline="", encoding="utf-8") as file:
            found += sum(row["tag"] == "loss" for row in csv.DictReader(file))
    return found


def _wandb_points(folder: Path) -> int:
    return sum("loss" in row for path in folder.rglob("*.wandb") for row in wandb_rows(path))


def _mlflow_points(folder: Path) -> int:
    found = 0
    for path in folder.rglob("mlflow.db"):
        with sqlite3.connect(path) as database:
            (count,) = database.execute("SELECT count(*) FROM metrics WHERE key LIKE '%loss%'").fetchone()
            found += count
    return found


def _clearml_points(folder: Path) -> int:
    found = 0
    for path in folder.rglob("metrics.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            found += sum(
                (event["type"], event["metric"]) == ("training_stats_scalar", "loss") for event in json.loads(line)
            )
    return found


def _aim_points(folder: Path) -> int:
    from aim import Repo

    repo = Repo.from_path(str(folder))
    repo._recreate_index()  # a run that has just ended is not in it yet
    found = 0
    for run in repo.iter_runs():
        for metric in run.metrics():
            if metric.name.endswith("loss"):
                found += len(metric.values.sparse_list()[0])
    return found


_POINTS = {
    "csv": _csv_points,
    "wandb": _wandb_points,
    "mlflow": _mlflow_points,
    "clearml": _clearml_points,
    "aim": _aim_points,
}
