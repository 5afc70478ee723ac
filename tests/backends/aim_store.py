"""What an Aim repository really holds: a reader for the tests that shares no line with the adapter.

Aim's own queries read an index that a finished run is not in until `aim up` ran: here each run's own chunk is opened.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tracelet.testing import Stored

KINDS = {"aim.text": "text", "aim.image": "image", "aim.audio": "audio", "aim.distribution": "histogram"}
KINDS |= dict.fromkeys(("float", "int", "number"), "scalar")


@dataclass
class Point:
    """One point of one of Aim's sequences."""

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
        return self.epoch if self.context.get("repeat") == "more" else self.step

    @property
    def facts(self) -> dict[str, Any]:
        """The exact record beside what is shown."""
        return json.loads(self.value.storage["tracelet"].load())


@dataclass
class StoredRun:
    """All that the chunk of one run says."""

    hash: str
    attributes: dict[str, Any] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    ended: bool = False
    artifacts: dict[str, bytes] = field(default_factory=dict)
    artifact_facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    props: dict[str, Any] = field(default_factory=dict)

    def series(self, name: str, **context: Any) -> list[tuple[int, Any, float]]:
        """The points of one name in one context, by step."""
        own = [one for one in self.points if one.name == name and one.context == context]
        return [(one.step, one.value, one.wall_time) for one in own]


def _plain(name: str) -> str:
    return unquote(name[1:], errors="surrogatepass") if name.startswith("~") else name


def runs(repo: Path) -> list[StoredRun]:
    """Every run of a repository, oldest first."""
    chunks = repo / ".aim" / "meta" / "chunks"
    folders = sorted(chunks.iterdir(), key=lambda path: path.stat().st_ctime_ns) if chunks.exists() else []
    return [read(repo, folder.name) for folder in folders]


def only(repo: Path) -> StoredRun:
    (run,) = runs(repo)
    return run


def read(repo: Path, hash: str) -> StoredRun:
    """One run, from its own files."""
    from aim.sdk.repo import Repo

    opened = Repo(str(repo))
    meta = opened.request_tree("meta", hash, read_only=True).subtree(("meta", "chunks", hash))
    sequences = opened.request_tree("seqs", hash, read_only=True)
    run = StoredRun(hash, attributes=dict(meta.get("attrs", {})), ended=meta.get("end_time") is not None)
    props = opened.structured_db.find_run(hash)
    run.props = {name: getattr(props, name) for name in ("name", "experiment", "tags", "description")}
    run.points = sorted(_points(meta, sequences, hash), key=_order)
    _read_files(meta, sequences, run)
    return run


def _order(point: Point) -> tuple[str, int, str]:
    return point.name, point.step, str(point.context.get("repeat", ""))


def _points(meta: Any, sequences: Any, hash: str) -> Iterator[Point]:
    contexts = meta.get("contexts", {})
    for context, names in meta.get("traces", {}).items():
        for name, told in names.items():
            path = ("seqs", "v2", "chunks", hash) if told["version"] == 2 else ("seqs", "chunks", hash)
            columns = {one: dict(sequences.subtree((*path, context, name, one)).items()) for one in ("time", "val")}
            epochs = dict(sequences.subtree((*path, context, name, "epoch")).items())
            steps = {key: key for key in columns["time"]}
            if told["version"] == 2:
                steps = dict(sequences.subtree((*path, context, name, "step")).items())
            for key, step in steps.items():
                value, time = columns["val"][key], columns["time"][key]
                yield Point(name, contexts[context], told["dtype"], step, epochs.get(key), time, value)


def _read_files(meta: Any, sequences: Any, run: StoredRun) -> None:
    known = meta.get(("tracelet", "files"), {})
    uri = meta.get("artifacts_uri", None)
    chunks = sequences.subtree(("seqs", "chunks", run.hash, "tracelet"))
    for name, told in known.items():
        if uri:
            data = Path(urlsplit(uri).path, run.hash, name).read_bytes()
        elif told["size"]:
            data = b"".join(part.load() for _, part in sorted(chunks.subtree(told["digest"]).items()))
        else:
            data = b""
        run.artifacts[name], run.artifact_facts[name] = data, told


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    params: dict[str, Any] = {}
    for key, value in tree.items():
        name = prefix + _plain(key)
        params.update(_flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value})
    return params


def stored(repo: Path, hash: str | None = None) -> Stored:
    """All runs of a repository as one, or one of them, in neutral words."""
    found = Stored(scalars=[], params={}, texts=[], images={}, histograms=[], artifacts={}, counts=Counter())
    found.summary, found.tags, found.alerts = {}, [], []
    for run in runs(repo) if hash is None else [read(repo, hash)]:
        found.params.update(_flat(run.attributes.get("hparams", {})))
        found.summary.update(_flat(run.attributes.get("summary", {})))
        found.tags += run.props["tags"]
        for point in run.points:
            _tell(point, found)
        given = {name: told for name, told in run.artifact_facts.items() if "artifact" in told}
        found.counts["artifact"] += len({(told["artifact"], told["wall_time"]) for told in given.values()})
        found.artifacts.update({name: run.artifacts[name] for name in given})
    return found


def _tell(point: Point, found: Stored) -> None:
    if point.name.startswith("__system__") or point.name == "logs":  # Aim's own
        return
    if point.name == "__log_records":
        kept = point.value.storage
        told, level = kept["extra_args"], logging.getLevelName(kept["log_level"]).lower()
        found.alerts.append((told["title"], told["text"], level))
        return
    tag, step = point.tag, point.true_step
    if point.kind == "scalar":
        found.scalars.append((tag, step, point.value, point.wall_time))
        return
    found.counts[point.kind] += 1
    if point.kind == "text":
        found.texts.append((tag, step, point.value.storage["data"].load()))
    elif point.kind == "image":
        found.images[tag, step] = point.value.storage["data"].load()
    elif point.kind == "histogram":
        told = point.facts
        found.histograms.append((told["tag"], told["step"], tuple(told["limits"]), tuple(told["counts"])))
