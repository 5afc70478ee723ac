"""What a `.wandb` file really holds: a reader for the tests that shares no line with the adapter.

The file is a LevelDB log (7 bytes of header, then 32 KiB blocks of fragments) of `wandb_internal_pb2.Record`.
"""

from __future__ import annotations

import html
import json
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracelet.testing import Stored

LEVELS = {"INFO": "info", "WARN": "warning", "ERROR": "error"}
HEADER = 7
BLOCK = 32 * 1024


def payloads(data: bytes) -> list[bytes]:
    """The complete records of a LevelDB log; a torn end is left out, as a reader after a kill would."""
    found: list[bytes] = []
    parts: list[bytes] = []
    at = HEADER
    while True:
        room = BLOCK - at % BLOCK
        if room < 7:  # the writer pads what cannot hold a fragment header
            at += room
            continue
        if at + 7 > len(data):
            return found
        length, kind = struct.unpack_from("<HB", data, at + 4)
        end = at + 7 + length
        if kind == 0 or end > len(data):
            return found
        parts.append(data[at + 7 : end])
        if kind in (1, 4):
            found.append(b"".join(parts))
            parts = []
        at = end


@dataclass
class StoredArtifact:
    """One artifact record: its words, and the bytes of every entry of its manifest."""

    name: str
    type: str
    metadata: dict[str, Any]
    description: str
    entries: dict[str, bytes]
    paths: dict[str, str]


@dataclass
class StoredRun:
    """All that one or more `.wandb` files of a run say, in their order."""

    folder: Path
    id: str = ""
    project: str = ""
    name: str = ""
    tags: tuple[str, ...] = ()
    rows: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, tuple[str, bool]] = field(default_factory=dict)
    definitions: list[str] = field(default_factory=list)
    globs: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    artifacts: list[StoredArtifact] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    alerts: list[tuple[str, str, str]] = field(default_factory=list)

    def series(self, key: str) -> list[tuple[Any, Any, Any]]:
        """Every point of one metric, in file order: axis, value, wall time."""
        return [(row.get("global_step"), row[key], row["_timestamp"]) for row in self.rows if key in row]

    def media(self, key: str) -> list[bytes]:
        """The bytes of every file that was logged under one key."""
        return [(self.folder / "files" / row[key]["path"]).read_bytes() for row in self.rows if key in row]

    def artifact(self, name: str) -> StoredArtifact:
        (found,) = [artifact for artifact in self.artifacts if artifact.name == name]
        return found


def _value(text: str) -> Any:
    # wandb writes -0.0 as "-0", which json.loads reads as the integer 0.
    return json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))


def _put(target: dict[str, Any], item: Any) -> None:
    """An item under its key; a nested key (a picture's path, size, ...) makes nested dictionaries.

    The summary of a key that meets a number first and a picture later is the picture.
    """
    *outer, last = item.nested_key or [item.key]
    for key in outer:
        if not isinstance(target.get(key), dict):
            target[key] = {}
        target = target[key]
    target[last] = _value(item.value_json)


def read(folder: Path) -> StoredRun:
    """The run in one `offline-run-...` or `run-...` folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    run = StoredRun(folder)
    for payload in payloads(path.read_bytes()):
        record = Record()
        record.ParseFromString(payload)
        match record.WhichOneof("record_type"):
            case "run":
                run.id, run.project, run.name = record.run.run_id, record.run.project, record.run.display_name
                run.tags = tuple(record.run.tags)
                for item in record.run.config.update:
                    _put(run.config, item)
            case "history":
                run.rows.append({})
                for item in record.history.item:
                    _put(run.rows[-1], item)
            case "metric":
                if record.metric.glob_name:
                    run.globs[record.metric.glob_name] = record.metric.step_metric
                else:
                    run.definitions.append(record.metric.name)
                    run.metrics[record.metric.name] = (record.metric.step_metric, record.metric.options.hidden)
            case "config":
                for item in record.config.update:
                    _put(run.config, item)
            case "summary":
                for item in record.summary.update:
                    _put(run.summary, item)
            case "alert":
                run.alerts.append((record.alert.title, record.alert.text, LEVELS[record.alert.level]))
            case "exit":
                run.exit_code = record.exit.exit_code
            case "artifact":
                told = record.artifact
                paths = {entry.path: entry.local_path for entry in told.manifest.contents}
                run.artifacts.append(
                    StoredArtifact(
                        told.name,
                        told.type,
                        json.loads(told.metadata) if told.metadata else {},
                        told.description,
                        {name: Path(local).read_bytes() for name, local in paths.items()},
                        paths,
                    )
                )
    return run


def runs(wandb_dir: Path) -> list[StoredRun]:
    """Every run folder below a WANDB_DIR, oldest first."""
    folders = [path for path in (wandb_dir / "wandb").iterdir() if path.is_dir() and not path.is_symlink()]
    folders = [path for path in folders if any(path.glob("*.wandb"))]
    return [read(path) for path in sorted(folders, key=lambda path: next(path.glob("*.wandb")).stat().st_ctime_ns)]


def only(wandb_dir: Path) -> StoredRun:
    """The one run below a WANDB_DIR."""
    (run,) = runs(wandb_dir)
    return run


def stored(wandb_dir: Path) -> Stored:
    """All runs below a WANDB_DIR as one, in neutral words."""
    found = Stored(scalars=[], params={}, texts=[], images={}, histograms=[], artifacts={}, counts=Counter())
    found.summary, found.tags, found.alerts = {}, [], []
    for run in runs(wandb_dir):
        _tell(run, found)
    return found


def _tell(run: StoredRun, found: Stored) -> None:
    """Add what one folder of the run holds."""
    tags = run.config.get("tracelet_names", {})
    kinds = {"image-file": "image", "audio-file": "audio", "video-file": "video", "table-file": "table"}
    kinds |= {"html-file": "text", "histogram": "histogram"}
    for row in run.rows:
        step, wall_time = row["global_step"], row["_timestamp"]
        for key in row.keys() - {"global_step", "_timestamp", "_step", "_runtime"}:
            value, tag = row[key], tags.get(key, key)
            if not isinstance(value, dict):
                found.scalars.append((tag, step, float(value), wall_time))
                continue
            kind = "pr_curve" if key.startswith("Custom Chart Tables/") else kinds[value["_type"]]
            found.counts[kind] += 1
            data = (run.folder / "files" / value["path"]).read_bytes() if "path" in value else b""
            if value["_type"] == "image-file":
                found.images[tag, step] = data
            elif value["_type"] == "html-file":
                shown = data.decode().partition(">\n")[2].removesuffix("</pre>")
                found.texts.append((tag, step, html.unescape(shown)))
    for path in (run.folder / "files").glob("tracelet/*.jsonl"):
        for line in path.read_text().splitlines():
            told = json.loads(line)
            found.histograms.append((told["tag"], told["step"], tuple(told["limits"]), tuple(told["counts"])))
    for kept in run.artifacts:
        if kept.type == "run_table":
            continue
        given = "tag" not in kept.metadata
        found.counts["artifact" if given else kept.type] += 1
        if given:
            found.artifacts.update(kept.entries)
    own = {key: value for key, value in run.config.items() if key not in ("_wandb", "tracelet_names")}
    found.params.update(own)
    found.summary.update({tags.get(key, key): value for key, value in run.summary.items() if not key.startswith("_")})
    found.tags = list(run.tags)
    found.alerts += run.alerts
