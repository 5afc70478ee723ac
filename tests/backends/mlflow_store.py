"""Read an MLflow store for the tests: SQLite tables and artifact folders, without MLflow and without the adapter."""

from __future__ import annotations

import collections
import json
import re
import sqlite3
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.store_content import StoreContent

IMAGE = re.compile(r"images/(.*)\+step\+(-?\d+)\+timestamp\+(\d+)\+([0-9a-f-]{36})\.(png|webp)")
OURS = ("mlflow.", "tracelet.")


@dataclass
class StoredRun:
    """Hold the rows of a run, and its artifacts by path."""

    id: str
    name: str
    status: str
    experiment: str
    start_time: int
    end_time: int | None
    folder: Path
    metrics: list[tuple[str, int, float, int]]
    """(key, step, value, milliseconds), in the order of the table."""
    params: dict[str, str]
    tags: dict[str, str]
    artifacts: dict[str, bytes] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, str]:
        """Map each key that the adapter derived to its tag."""
        pieces: dict[str, list[tuple[int, str]]] = {}
        for name, value in self.tags.items():
            found = re.fullmatch(r"tracelet\.name\.(.*-[0-9a-f]{10})(?:\.(\d+))?", name, re.DOTALL)
            if found:
                pieces.setdefault(found[1], []).append((int(found[2] or 1), value))
        return {key: json.loads("".join(text for _, text in sorted(parts))) for key, parts in pieces.items()}

    def tag_of(self, key: str) -> str:
        return self.names.get(key, key)

    def series(self, tag: str) -> list[tuple[int, float, float]]:
        """Return (step, value, seconds) of one tag."""
        names = self.names
        return [(step, value, ms / 1000) for key, step, value, ms in self.metrics if names.get(key, key) == tag]

    def exact_points(self) -> list[tuple[str, float, int, float]]:
        """Return (tag, value, step, wall time) of the points that the metrics table cannot hold exactly."""
        lines = [
            line
            for path, data in self.artifacts.items()
            if re.fullmatch(r"tracelet/scalar/[^/]+\.jsonl", path)
            for line in data.decode().splitlines()
        ]
        return [tuple(json.loads(line)) for line in dict.fromkeys(lines)]

    @property
    def exact_params(self) -> dict[str, Any]:
        """Those of all ranks."""
        files = [path for path in self.artifacts if re.fullmatch(r"tracelet/(?:[^/]*rank[^/]*/)?params\.json", path)]
        return {key: value for path in files for key, value in json.loads(self.artifacts[path]).items()}

    @property
    def exact_summary(self) -> dict[str, Any]:
        return dict(json.loads(self.artifacts.get("tracelet/summary.json", b"{}")))

    def summary_metrics(self) -> dict[str, float]:
        """Return the numbers of the summary as the page of the run shows them: the latest value of each."""
        names, shown = self.names, {}
        for key, _, value, _ in sorted(self.metrics, key=lambda metric: metric[3]):
            name = names.get(key, key)
            if name.startswith("summary/") and name[len("summary/") :] in self.exact_summary:
                shown[name[len("summary/") :]] = value
        return shown

    def own_tags(self) -> list[str]:
        """Return the tags that the program set, without those of MLflow and tracelet."""
        summary, names = {f"summary/{name}" for name in self.exact_summary}, self.names
        tags = {names.get(key, key): value for key, value in self.tags.items() if not key.startswith(OURS)}
        return [name if value == "true" else f"{name}={value}" for name, value in tags.items() if name not in summary]

    def facts(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the facts of each record of a kind, with the path of its file without the suffix."""
        found = []
        for path, data in sorted(self.artifacts.items()):
            match = re.fullmatch(rf"(tracelet/{kind}/.*step_-?\d+_\d+_[0-9a-f]{{10}})(\.facts)?\.json", path)
            if match and (match[2] or kind in ("histogram", "pr_curve")):
                found.append((match[1], json.loads(data)))
        return sorted(found, key=lambda item: item[1].get("wall_time", 0))

    def images(self) -> list[tuple[str, int, int, bytes]]:
        """Return (tag, step, milliseconds, bytes) of the images in MLflow's view."""
        names, found = self.names, []
        for path, data in sorted(self.artifacts.items()):
            match = IMAGE.fullmatch(path)
            if match:
                key = match[1].replace("~", "/")
                found.append((names.get(key, key), int(match[2]), int(match[3]), data))
        return found

    def own_artifacts(self) -> dict[str, bytes]:
        """Return the artifacts that the program logged, by its paths."""
        renamed = {stored: name for _, facts in self.facts("artifact") for stored, name in facts["files"].items()}
        ours = re.compile(r"tracelet/|images/[^/]*\+step\+")
        return {renamed.get(path, path): data for path, data in self.artifacts.items() if not ours.match(path)}


def runs(database: Path, artifacts: Path | None = None) -> list[StoredRun]:
    """Return every run of a store, oldest first. `artifacts` is the root folder of `mlflow-artifacts:` addresses."""
    uri = f"file:{urllib.parse.quote(str(database))}?mode=ro"
    with sqlite3.connect(uri, uri=True) as db:
        rows = db.execute(
            "SELECT run_uuid, r.name, status, e.name, start_time, end_time, artifact_uri FROM runs r"
            " JOIN experiments e ON e.experiment_id = r.experiment_id ORDER BY r.rowid"
        ).fetchall()
        found = [_run(db, row, artifacts) for row in rows]
    db.close()
    return found


def _run(db: sqlite3.Connection, row: tuple[Any, ...], artifacts: Path | None) -> StoredRun:
    run_id, name, status, experiment, begun, ended, address = row
    metrics = [
        (key, step, float("nan") if is_nan else value, ms)
        for key, step, value, ms, is_nan in db.execute(
            "SELECT key, step, value, timestamp, is_nan FROM metrics WHERE run_uuid = ? ORDER BY rowid", [run_id]
        )
    ]
    params = dict(db.execute("SELECT key, value FROM params WHERE run_uuid = ?", [run_id]))
    tags = dict(db.execute("SELECT key, value FROM tags WHERE run_uuid = ?", [run_id]))
    folder = _folder(address, artifacts)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return StoredRun(run_id, name, status, experiment, begun, ended, folder, metrics, params, tags, files)


def _folder(address: str, artifacts: Path | None) -> Path:
    if address.startswith("mlflow-artifacts:"):
        assert artifacts is not None
        return artifacts / urllib.parse.unquote(urllib.parse.urlsplit(address).path).lstrip("/")
    return Path(urllib.parse.unquote(urllib.parse.urlsplit(address).path) if "://" in address else address)


def only(database: Path, artifacts: Path | None = None) -> StoredRun:
    """Return the run of a store that has exactly one."""
    (run,) = runs(database, artifacts)
    return run


def to_content(run: StoredRun) -> StoreContent:
    """Return the content of a run, with tags and parameter names as in the program."""
    names = run.names
    summary = {f"summary/{name}" for name in run.exact_summary}
    counts = collections.Counter(
        {kind: len(run.facts(kind)) for kind in ("audio", "video", "table", "pr_curve", "tensor", "mesh")}
    )
    counts |= {kind: len(run.facts(kind)) for kind in ("embedding", "graph", "layout", "raw")}
    return StoreContent(
        scalars=[
            (names.get(key, key), step, value, ms / 1000)
            for key, step, value, ms in run.metrics
            if names.get(key, key) not in summary
        ],
        params=run.exact_params,
        texts=[_text(run, path, facts) for path, facts in run.facts("text")],
        images={(tag, step): data for tag, step, _, data in run.images()},
        histograms=[
            (facts["tag"], facts["step"], tuple(facts["limits"]), tuple(facts["counts"]))
            for _, facts in run.facts("histogram")
        ],
        artifacts=run.own_artifacts(),
        summary=run.exact_summary,
        tags=run.own_tags(),
        alerts=[(facts["title"], facts["text"], facts["level"]) for _, facts in run.facts("alert")],
        counts=counts,
    )


def _text(run: StoredRun, path: str, facts: dict[str, Any]) -> tuple[str, int, str]:
    return facts["tag"], facts["step"], run.artifacts[f"{path}.md"].decode()


def stored(folder: Path) -> StoreContent:
    """Return the content of the only run in the default store of a program with the working directory `folder`."""
    return to_content(only(folder / "mlflow.db"))
