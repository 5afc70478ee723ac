"""What an MLflow store really holds: its SQLite tables and artifact folders, read without MLflow and without us."""

from __future__ import annotations

import collections
import json
import re
import sqlite3
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracelet.testing import Stored

IMAGE = re.compile(r"images/(.*)\+step\+(-?\d+)\+timestamp\+(\d+)\+([0-9a-f-]{36})\.(png|webp)")
OURS = ("mlflow.", "tracelet.")
PICTURES = ("histograms/", "pr_curves/")


@dataclass
class StoredRun:
    """One run: its rows, and its artifacts by path."""

    id: str
    name: str
    status: str
    experiment: str
    start_time: int
    end_time: int | None
    folder: Path
    metrics: list[tuple[str, int, float, int]]
    """(key, step, value, milliseconds), in the order in which they were stored."""
    params: dict[str, str]
    tags: dict[str, str]
    artifacts: dict[str, bytes] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, str]:
        """Made key to the tag behind it."""
        pieces: dict[str, list[tuple[int, str]]] = {}
        for name, value in self.tags.items():
            found = re.fullmatch(r"tracelet\.name\.(.*-[0-9a-f]{10})(?:\.(\d+))?", name, re.DOTALL)
            if found:
                pieces.setdefault(found[1], []).append((int(found[2] or 1), value))
        return {key: json.loads("".join(text for _, text in sorted(parts))) for key, parts in pieces.items()}

    def tag_of(self, key: str) -> str:
        return self.names.get(key, key)

    def series(self, tag: str) -> list[tuple[int, float, float]]:
        """(step, value, seconds) of one tag."""
        names = self.names
        return [(step, value, ms / 1000) for key, step, value, ms in self.metrics if names.get(key, key) == tag]

    def exact(self) -> list[tuple[str, float, int, float]]:
        """(tag, value, step, wall time) of the points that the metrics table cannot hold as they are."""
        lines = [
            line
            for path, data in self.artifacts.items()
            if re.fullmatch(r"tracelet/scalar/[^/]+\.jsonl", path)
            for line in data.decode().splitlines()
        ]
        return [tuple(json.loads(line)) for line in dict.fromkeys(lines)]

    @property
    def exact_params(self) -> dict[str, Any]:
        return dict(json.loads(self.artifacts.get("tracelet/params.json", b"{}")))

    @property
    def exact_summary(self) -> dict[str, Any]:
        return dict(json.loads(self.artifacts.get("tracelet/summary.json", b"{}")))

    def figures(self) -> dict[str, float]:
        """The numbers of the summary as the page of the run shows them: by the latest time."""
        names, shown = self.names, {}
        for key, _, value, _ in sorted(self.metrics, key=lambda one: one[3]):
            name = names.get(key, key)
            if name.startswith("summary/") and name[len("summary/") :] in self.exact_summary:
                shown[name[len("summary/") :]] = value
        return shown

    def words(self) -> list[str]:
        """The run's tags as the program said them, but for MLflow's own and ours."""
        own, names = {f"summary/{name}" for name in self.exact_summary}, self.names
        told = {names.get(key, key): value for key, value in self.tags.items() if not key.startswith(OURS)}
        return [name if value == "true" else f"{name}={value}" for name, value in told.items() if name not in own]

    def facts(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """The facts of each record of a kind, by the path of their file without its suffix."""
        found = []
        for path, data in sorted(self.artifacts.items()):
            told = re.fullmatch(rf"(tracelet/{kind}/.*step_-?\d+_\d+_[0-9a-f]{{10}})(\.facts)?\.json", path)
            if told and (told[2] or kind in ("histogram", "pr_curve")):
                found.append((told[1], json.loads(data)))
        return sorted(found, key=lambda one: one[1].get("wall_time", 0))

    def images(self) -> list[tuple[str, int, int, bytes]]:
        """(tag, step, milliseconds, bytes) of what MLflow's image view shows, but for our drawings."""
        names, found = self.names, []
        for path, data in sorted(self.artifacts.items()):
            told = IMAGE.fullmatch(path)
            if told:
                key = told[1].replace("~", "/")
                if key in names or not key.startswith(PICTURES):
                    found.append((names.get(key, key), int(told[2]), int(told[3]), data))
        return found

    def own(self) -> dict[str, bytes]:
        """The artifacts that the program handed over, by the paths it gave."""
        renamed = {stored: name for _, told in self.facts("artifact") for stored, name in told["files"].items()}
        ours = re.compile(r"tracelet/|images/[^/]*\+step\+")
        return {renamed.get(path, path): data for path, data in self.artifacts.items() if not ours.match(path)}


def runs(database: Path, artifacts: Path | None = None) -> list[StoredRun]:
    """Every run of a store, oldest first; `artifacts`: the folder behind a server's `mlflow-artifacts:` addresses."""
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
    (run,) = runs(database, artifacts)
    return run


def told(run: StoredRun) -> Stored:
    """A run in neutral words, with the tags and parameters' names as the program gave them."""
    names = run.names
    figures = {f"summary/{name}" for name in run.exact_summary}
    counts = collections.Counter(
        {kind: len(run.facts(kind)) for kind in ("audio", "video", "table", "pr_curve", "tensor", "mesh")}
    )
    counts |= {kind: len(run.facts(kind)) for kind in ("embedding", "graph", "layout", "raw")}
    return Stored(
        scalars=[
            (names.get(key, key), step, value, ms / 1000)
            for key, step, value, ms in run.metrics
            if names.get(key, key) not in figures
        ],
        params=run.exact_params,
        texts=[_text(run, place, facts) for place, facts in run.facts("text")],
        images={(tag, step): data for tag, step, _, data in run.images()},
        histograms=[
            (one["tag"], one["step"], tuple(one["limits"]), tuple(one["counts"])) for _, one in run.facts("histogram")
        ],
        artifacts=run.own(),
        summary=run.exact_summary,
        tags=run.words(),
        alerts=[(one["title"], one["text"], one["level"]) for _, one in run.facts("alert")],
        counts=counts,
    )


def _text(run: StoredRun, place: str, facts: dict[str, Any]) -> tuple[str, int, str]:
    return facts["tag"], facts["step"], run.artifacts[f"{place}.md"].decode()


def stored(folder: Path) -> Stored:
    """The one run of the store that is made by default in a program's working directory."""
    return told(only(folder / "mlflow.db"))
