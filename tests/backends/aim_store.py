"""Read an Aim repository for the tests, without any code of the adapter.

Aim's own queries read an index, which has a finished run only after `aim up`. This reader opens each run's own chunk.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from backends.store_content import StoreContent

KINDS = {"aim.text": "text", "aim.image": "image", "aim.audio": "audio", "aim.distribution": "histogram"}
KINDS |= dict.fromkeys(("float", "int", "number"), "scalar")


@dataclass
class Point:
    """A point of one of Aim's sequences."""

    name: str
    context: dict[str, Any]
    dtype: str
    step: int
    epoch: int | None
    wall_time: float
    value: Any

    @property
    def tag(self) -> str:
        name = _plain(self.name)
        return f"{_plain(self.context['subset'])}/{name}" if "subset" in self.context else name

    @property
    def kind(self) -> str:
        return self.context.get("kind") or KINDS.get(self.dtype, self.dtype)

    @property
    def true_step(self) -> int:
        if "step" in self.context:
            return int(self.context["step"])
        if self.context.get("repeat") == "more":
            assert self.epoch is not None
            return self.epoch
        return self.step

    @property
    def facts(self) -> dict[str, Any]:
        """Return the exact record, which is stored beside the displayed value."""
        return dict(json.loads(self.value.storage["tracelet"].load()))


@dataclass
class StoredRun:
    """Hold the chunk of one run."""

    hash: str
    attributes: dict[str, Any] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    ended: bool = False
    artifacts: dict[str, bytes] = field(default_factory=dict)
    artifact_facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    props: dict[str, Any] = field(default_factory=dict)
    created: float = 0.0

    def series(self, name: str, **context: Any) -> list[tuple[int, Any, float]]:
        """Return (step, value, wall time) of the points of one name in one context."""
        points = [point for point in self.points if point.name == name and point.context == context]
        return [(point.step, point.value, point.wall_time) for point in points]


def _plain(name: str) -> str:
    return unquote(name[1:], errors="surrogatepass") if name.startswith("~") else name


def runs(repo: Path) -> list[StoredRun]:
    """Return every run of a repository, oldest first."""
    chunks = repo / ".aim" / "meta" / "chunks"
    folders = sorted(chunks.iterdir(), key=lambda path: path.stat().st_ctime_ns) if chunks.exists() else []
    return [read(repo, folder.name) for folder in folders]


def only(repo: Path) -> StoredRun:
    """Return the run of a repository that has exactly one."""
    (run,) = runs(repo)
    return run


def read(repo: Path, hash: str) -> StoredRun:
    """Return a run, read from its own files."""
    from aim.sdk.repo import Repo

    opened = Repo(str(repo))
    meta = opened.request_tree("meta", hash, read_only=True).subtree(("meta", "chunks", hash))
    sequences = opened.request_tree("seqs", hash, read_only=True)
    run = StoredRun(hash, attributes=dict(meta.get("attrs", {})), ended=meta.get("end_time") is not None)
    props = opened.structured_db.find_run(hash)
    run.props = {name: getattr(props, name) for name in ("name", "experiment", "tags", "description")}
    run.created = props.creation_time
    run.points = sorted(_points(meta, sequences, hash), key=_order)
    _read_files(meta, sequences, run)
    return run


def _order(point: Point) -> tuple[str, int, str]:
    return point.name, point.step, str(point.context.get("repeat", ""))


def _points(meta: Any, sequences: Any, hash: str) -> Iterator[Point]:
    contexts = meta.get("contexts", {})
    for context, names in meta.get("traces", {}).items():
        for name, trace in names.items():
            path = ("seqs", "v2", "chunks", hash) if trace["version"] == 2 else ("seqs", "chunks", hash)
            columns = {key: dict(sequences.subtree((*path, context, name, key)).items()) for key in ("time", "val")}
            epochs = dict(sequences.subtree((*path, context, name, "epoch")).items())
            steps = {key: key for key in columns["time"]}
            if trace["version"] == 2:
                steps = dict(sequences.subtree((*path, context, name, "step")).items())
            for key, step in steps.items():
                value, time = columns["val"][key], columns["time"][key]
                yield Point(name, contexts[context], trace["dtype"], step, epochs.get(key), time, value)


def _read_files(meta: Any, sequences: Any, run: StoredRun) -> None:
    files = meta.get(("tracelet", "files"), {})
    uri = meta.get("artifacts_uri", None)
    chunks = sequences.subtree(("seqs", "chunks", run.hash, "tracelet"))
    for name, facts in files.items():
        if uri:
            data = Path(urlsplit(uri).path, run.hash, name).read_bytes()
        elif facts["size"]:
            data = b"".join(part.load() for _, part in sorted(chunks.subtree(facts["digest"]).items()))
        else:
            data = b""
        run.artifacts[name], run.artifact_facts[name] = data, facts


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    params: dict[str, Any] = {}
    for key, value in tree.items():
        name = prefix + _plain(key)
        params.update(_flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value})
    return params


def stored(repo: Path, hash: str | None = None) -> StoreContent:
    """Return the content of all runs of a repository, or of the run with this `hash`."""
    content = StoreContent()
    for run in runs(repo) if hash is None else [read(repo, hash)]:
        content.params.update(_flat(run.attributes.get("hparams", {})))
        content.summary.update(_flat(run.attributes.get("summary", {})))
        content.tags += run.props["tags"]
        for point in run.points:
            _add(point, content)
        own = {name: facts for name, facts in run.artifact_facts.items() if "artifact" in facts}
        content.counts["artifact"] += len({(facts["artifact"], facts["wall_time"]) for facts in own.values()})
        content.artifacts.update({name: run.artifacts[name] for name in own})
    return content


def _add(point: Point, content: StoreContent) -> None:
    if point.name.startswith("__system__") or point.name == "logs":  # Aim's own
        return
    if point.name == "__log_records":
        storage = point.value.storage
        message, level = storage["extra_args"], logging.getLevelName(storage["log_level"]).lower()
        content.alerts.append((message["title"], message["text"], level))
        return
    tag, step = point.tag, point.true_step
    if point.kind == "scalar":
        content.scalars.append((tag, step, point.value, point.wall_time))
        return
    content.counts[point.kind] += 1
    if point.kind == "text":
        content.texts.append((tag, step, point.value.storage["data"].load()))
    elif point.kind == "image":
        content.images[tag, step] = point.value.storage["data"].load()
    elif point.kind == "histogram":
        facts = point.facts
        content.histograms.append((facts["tag"], facts["step"], tuple(facts["limits"]), tuple(facts["counts"])))
