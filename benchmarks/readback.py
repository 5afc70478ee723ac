"""How many records each store really holds, by kind; none of these readers shares code with an adapter.

Every workload logs its scalars as `loss` (journal, csv and event files count any tag but those of the collected system
metrics) and its pictures as `picture`.
"""

from __future__ import annotations

import csv
import json
import sqlite3
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

# Both wandb and SwanLab write LevelDB's log format behind a header of their own.
HEADER, BLOCK = 7, 32 * 1024

Held = Counter[str]
COLLECTED = "system/"


def held(store: str, folder: Path) -> dict[str, int]:
    """Scalars, histograms and images in a store anywhere below `folder`, by whatever means they came there."""
    found = STORES[store](folder)
    return {kind: found[kind] for kind in ("scalar", "histogram", "image")}


def points(store: str, folder: Path) -> int:
    """How many scalars a store holds."""
    return held(store, folder)["scalar"]


def _events(folder: Path) -> Held:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    kinds = {"scalars": "scalar", "histograms": "histogram", "images": "image"}
    return Counter(
        kinds.get(value.metadata.plugin_data.plugin_name, "other")
        for path in folder.rglob("events.out.tfevents.*")
        if path.parent.name != COLLECTED.rstrip("/")  # the tensorboard backend's folder of that writer
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    )


def _journal(folder: Path) -> Held:
    import msgspec

    found: Held = Counter()
    for path in folder.glob("runs/*/*/journal.db"):
        with sqlite3.connect(path) as database:
            for (blob,) in database.execute("SELECT data FROM batches"):
                records = msgspec.msgpack.decode(blob)
                found.update(record[0] for record in records if not str(record[1]).startswith(COLLECTED))
    return found


def _csv(folder: Path) -> Held:
    found: Held = Counter()
    for path in folder.rglob("scalars.csv"):
        found["scalar"] += sum(not row["tag"].startswith(COLLECTED) for row in _rows(path))
    for path in folder.rglob("histograms.jsonl"):
        found["histogram"] += path.read_bytes().count(b"\n")
    for path in folder.rglob("media.csv"):
        found.update(row["kind"] for row in _rows(path) if (path.parent / row["path"]).is_file())
    return found


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _wandb(folder: Path) -> Held:
    found: Held = Counter()
    for path in folder.rglob("*.wandb"):
        for row in _wandb_history(path):
            found["scalar"] += "loss" in row
            found.update(kind for kind in row.values() if kind)
    return found


def _wandb_history(path: Path) -> Iterator[dict[str, str | None]]:
    """What each row logged, with the kind of what is no number."""
    from wandb.proto.wandb_internal_pb2 import Record

    kinds = {"histogram": "histogram", "image-file": "image", "images/separated": "image"}
    for payload in _leveldb_log(path.read_bytes()):
        record = Record.FromString(payload)
        if record.HasField("history"):
            row: dict[str, str | None] = {}
            for item in record.history.item:
                # A picture or histogram is a dict, in one item or spread over several of one first key.
                names, value = list(item.nested_key) or [item.key], json.loads(item.value_json)
                told = value.get("_type") if isinstance(value, dict) else value if names[1:] == ["_type"] else None
                row[names[0]] = kinds.get(str(told)) or row.get(names[0])
            yield row


def _leveldb_log(data: bytes) -> Iterator[bytes]:
    position, parts = HEADER, []
    while position + 7 <= len(data):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        parts.append(data[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []


def _mlflow(folder: Path) -> Held:
    found: Held = Counter()
    for path in folder.rglob("mlflow.db"):
        with sqlite3.connect(path) as database:
            (count,) = database.execute("SELECT count(*) FROM metrics WHERE key LIKE '%loss%'").fetchone()
            found["scalar"] += count
    buckets = folder.rglob("tracelet/histogram/**/step_*.json")
    found["histogram"] = sum(not path.name.endswith(".facts.json") for path in buckets)
    found["image"] = sum("picture" in path.name for path in folder.rglob("images/**/*.png"))
    return found


def _clearml(folder: Path) -> Held:
    kinds = {"training_stats_scalar": "scalar", "plot": "histogram", "training_debug_image": "image"}
    found: Held = Counter()
    for path in folder.rglob("metrics.jsonl"):
        with open(path, encoding="utf-8") as file:
            events = [event for line in file for event in json.loads(line)]
        # Its own charts of the machine are scalars too.
        found.update(
            kinds.get(event["type"], "other")
            for event in events
            if event["type"] != "training_stats_scalar" or event["metric"] == "loss"
        )
    return found


def _aim(folder: Path) -> Held:
    from aim import Distribution, Image, Repo

    repo = Repo.from_path(str(folder))
    repo._recreate_index()  # a run that has just ended is not in it yet
    found: Held = Counter()
    for run in repo.iter_runs():
        for metric in run.metrics():
            if metric.name.endswith("loss"):
                found["scalar"] += len(metric.values.sparse_list()[0])
        for name, context, _ in run.iter_sequence_info_by_type(Distribution.get_typename()):
            found["histogram"] += len(run.get_distribution_sequence(name, context).values.sparse_list()[0])
        for name, context, _ in run.iter_sequence_info_by_type(Image.get_typename()):
            found["image"] += len(run.get_image_sequence(name, context).values.sparse_list()[0])
    return found


def _trackio(folder: Path) -> Held:
    found: Held = Counter()
    for path in folder.rglob("trackio/*.db"):
        with sqlite3.connect(path) as database:
            for (text,) in database.execute("SELECT metrics FROM metrics"):
                for name, value in json.loads(text).items():
                    kind = str(value.get("_type")) if isinstance(value, dict) else "scalar"
                    if kind != "scalar" or name == "loss":
                        found[kind.removeprefix("trackio.")] += 1
    return found


def _swanlab(folder: Path) -> Held:
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record

    found: Held = Counter()
    for path in folder.rglob("*.swanlab"):
        for payload in _leveldb_log(path.read_bytes()):
            record = Record.FromString(payload)
            found["scalar"] += record.HasField("scalar") and record.scalar.key == "loss"
            found["image"] += record.HasField("media") and record.media.key == "picture"
    return found


STORES: dict[str, Callable[[Path], Held]] = {
    "events": lambda folder: _events(folder / "events"),
    "journal": _journal,
    "csv": _csv,
    "tensorboard": lambda folder: _events(folder / "runs"),
    "wandb": _wandb,
    "mlflow": _mlflow,
    "clearml": _clearml,
    "aim": _aim,
    "trackio": _trackio,
    "swanlab": _swanlab,
}
