"""Read a `.wandb` file for the tests, without any code of the adapter.

The file is a LevelDB log (7 bytes of header, then 32 KiB blocks of fragments) of `wandb_internal_pb2.Record`.
"""

from __future__ import annotations

import html
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.store_content import StoreContent

MARK = "_tracelet"
"""The key that says in each row which records the run holds. A row may have it alone."""
LEVELS = {"INFO": "info", "WARN": "warning", "ERROR": "error"}
HEADER = 7
BLOCK = 32 * 1024


def payloads(data: bytes) -> list[bytes]:
    """Return the complete records of a LevelDB log. Ignore a torn end, as left by a kill."""
    found: list[bytes] = []
    parts: list[bytes] = []
    offset = HEADER
    while True:
        room = BLOCK - offset % BLOCK
        if room < 7:  # too small for a fragment header: padding
            offset += room
            continue
        if offset + 7 > len(data):
            return found
        length, kind = struct.unpack_from("<HB", data, offset + 4)
        end = offset + 7 + length
        if kind == 0 or end > len(data):
            return found
        parts.append(data[offset + 7 : end])
        if kind in (1, 4):
            found.append(b"".join(parts))
            parts = []
        offset = end


@dataclass
class StoredArtifact:
    """Hold an artifact record, and the bytes of every entry of its manifest."""

    name: str
    type: str
    metadata: dict[str, Any]
    description: str
    entries: dict[str, bytes]
    paths: dict[str, str]


@dataclass
class StoredRun:
    """Hold the records of a run's `.wandb` file, in order."""

    folder: Path
    id: str = ""
    project: str = ""
    name: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()
    rows: list[dict[str, Any]] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    metrics: dict[str, tuple[str, bool]] = field(default_factory=dict)
    definitions: list[str] = field(default_factory=list)
    globs: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    artifacts: list[StoredArtifact] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    alerts: list[tuple[str, str, str]] = field(default_factory=list)

    def series(self, key: str) -> list[tuple[Any, Any, Any]]:
        """Return (axis, value, wall time) of every point of one metric, in file order."""
        return [(row.get("global_step"), row[key], row["_timestamp"]) for row in self.rows if key in row]

    def media(self, key: str) -> list[bytes]:
        """Return the bytes of every file that was logged under one key."""
        return [(self.folder / "files" / row[key]["path"]).read_bytes() for row in self.rows if key in row]

    def artifact(self, name: str) -> StoredArtifact:
        (found,) = [artifact for artifact in self.artifacts if artifact.name == name]
        return found


def _value(text: str) -> Any:
    # wandb writes -0.0 as "-0", which json.loads reads as the integer 0.
    return json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))


def _put(target: dict[str, Any], item: Any) -> None:
    """Set an item under its key. A nested key (the path or size of an image, ...) makes nested dictionaries.

    If the summary of a key has a number first and an image later, the image replaces the number.
    """
    *outer, last = item.nested_key or [item.key]
    for key in outer:
        if not isinstance(target.get(key), dict):
            target[key] = {}
        target = target[key]
    target[last] = _value(item.value_json)


def read(folder: Path) -> StoredRun:
    """Return the run in a folder `offline-run-...` or `run-...`."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    run = StoredRun(folder)
    for payload in payloads(path.read_bytes()):
        record = Record()
        record.ParseFromString(payload)
        match record.WhichOneof("record_type"):
            case "run":
                run.id, run.project, run.name = record.run.run_id, record.run.project, record.run.display_name
                run.tags, run.group = tuple(record.run.tags), record.run.run_group
                for item in record.run.config.update:
                    _put(run.config, item)
            case "history":
                row: dict[str, Any] = {}
                for item in record.history.item:
                    _put(row, item)
                run.marks += [row.pop(MARK)] if MARK in row else []
                if any(not key.startswith("_") for key in row):
                    run.rows.append(row)
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
                artifact = record.artifact
                paths = {entry.path: entry.local_path for entry in artifact.manifest.contents}
                run.artifacts.append(
                    StoredArtifact(
                        artifact.name,
                        artifact.type,
                        json.loads(artifact.metadata) if artifact.metadata else {},
                        artifact.description,
                        {name: Path(local).read_bytes() for name, local in paths.items()},
                        paths,
                    )
                )
    return run


def runs(wandb_dir: Path) -> list[StoredRun]:
    """Return the run of every run folder below a WANDB_DIR, oldest first."""
    folders = [path for path in (wandb_dir / "wandb").iterdir() if path.is_dir() and not path.is_symlink()]
    folders = [path for path in folders if any(path.glob("*.wandb"))]
    return [read(path) for path in sorted(folders, key=lambda path: next(path.glob("*.wandb")).stat().st_ctime_ns)]


def only(wandb_dir: Path) -> StoredRun:
    """Return the only run below a WANDB_DIR."""
    (run,) = runs(wandb_dir)
    return run


def stored(wandb_dir: Path) -> StoreContent:
    """Return the content of all runs below a WANDB_DIR."""
    content = StoreContent()
    for run in runs(wandb_dir):
        add(run, content)
    return content


def add(run: StoredRun, content: StoreContent) -> None:
    """Add the content of a run."""
    tags = run.config.get("tracelet_names", {})
    kinds = {"image-file": "image", "audio-file": "audio", "video-file": "video", "table-file": "table"}
    kinds |= {"html-file": "text", "histogram": "histogram"}
    for row in run.rows:
        step, wall_time = row["global_step"], row["_timestamp"]
        for key in row.keys() - {"global_step", "_timestamp", "_step", "_runtime"}:
            value, tag = row[key], tags.get(key, key)
            if not isinstance(value, dict):
                content.scalars.append((tag, step, float(value), wall_time))
                continue
            kind = "pr_curve" if key.startswith("Custom Chart Tables/") else kinds[value["_type"]]
            content.counts[kind] += 1
            data = (run.folder / "files" / value["path"]).read_bytes() if "path" in value else b""
            if value["_type"] == "image-file":
                content.images[tag, step] = data
            elif value["_type"] == "html-file":
                shown = data.decode().partition(">\n")[2].removesuffix("</pre>")
                content.texts.append((tag, step, html.unescape(shown)))
    for path in (run.folder / "files").glob("tracelet/*.jsonl"):
        for line in path.read_text().splitlines():
            facts = json.loads(line)
            content.histograms.append((facts["tag"], facts["step"], tuple(facts["limits"]), tuple(facts["counts"])))
    for artifact in run.artifacts:
        if artifact.type == "run_table":
            continue
        is_own = "tag" not in artifact.metadata
        content.counts["artifact" if is_own else artifact.type] += 1
        if is_own:
            content.artifacts.update(artifact.entries)
    own = {key: value for key, value in run.config.items() if key not in ("_wandb", "tracelet_names")}
    content.params.update(own)
    content.summary.update({tags.get(key, key): value for key, value in run.summary.items() if not key.startswith("_")})
    content.tags = list(run.tags)
    content.alerts += run.alerts
