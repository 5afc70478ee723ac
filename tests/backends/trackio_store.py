"""Read Trackio's databases and files for the tests, without any code of the adapter or of Trackio."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from backends.store_content import StoreContent

NON_FINITE = ("NaN", "Infinity", "-Infinity")
KINDS = {"video": "video", "audio": "audio", "table": "table", "object3d": "mesh", "image": "pr_curve"}
OWN_KEYS = ("summary", "tags", "notes")


def rows(database: Path, query: str, *arguments: Any) -> list[dict[str, Any]]:
    """Return the rows of a query as dictionaries."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(query, arguments)]


def of_run(database: Path, table: str, run_id: str | None, order: str = "id") -> list[dict[str, Any]]:
    """Return the rows of a table that belong to a run, or all if `run_id` is None."""
    return rows(database, f"SELECT * FROM {table} WHERE ? IN (run_id, '') ORDER BY {order}", run_id or "")


def stored(folder: Path, run_id: str | None = None) -> StoreContent:
    """Return the content of all runs in Trackio's folder, or of the run with this id."""
    content = StoreContent()
    for database in sorted(folder.glob("*.db")):
        created = _read_config(database, run_id, content)
        for tag, step, wall_time, value in _values(database, run_id, created):
            if isinstance(value, dict):
                _add(folder, tag, step, value, content)
            else:
                content.scalars.append((tag, step, float(value), wall_time))
        for alert in of_run(database, "alerts", run_id):
            level = {"warn": "warning"}.get(alert["level"], alert["level"])
            content.alerts.append((alert["title"], alert["text"], level))
        _read_artifacts(folder, database, run_id, content)
    return content


def _read_config(database: Path, run_id: str | None, content: StoreContent) -> float:
    created = 0.0
    for row in of_run(database, "configs", run_id):
        config = json.loads(row["config"])
        created = datetime.fromisoformat(config["_Created"]).timestamp()
        names = (name for name in config if not name.startswith("_") and name not in OWN_KEYS)
        content.params.update({_unescaped(name): _number(config[name]) for name in names})
        content.summary.update(config.get("summary", {}))
        content.tags += config.get("tags", [])
    return created


def _values(database: Path, run_id: str | None, created: float) -> Iterator[tuple[str, int, float, Any]]:
    """Yield tag, step, wall time and value. The step of a system metric is the run's age in seconds."""
    for table in ("metrics", "system_metrics"):
        for row in of_run(database, table, run_id):
            wall_time = datetime.fromisoformat(row["timestamp"]).timestamp()
            step = row.get("step", max(0, int(wall_time - created)))
            for name, value in json.loads(row["metrics"]).items():
                yield _unescaped(name), step, wall_time, value


def _number(value: Any) -> Any:
    """Return a text as the number that Trackio reads it as. It does so for keys, but not inside a value."""
    return float(value) if isinstance(value, str) and value in NON_FINITE else value


def _unescaped(name: str) -> str:
    return unquote(name[1:], errors="surrogatepass") if name.startswith("~") else name


def _add(folder: Path, tag: str, step: int, value: dict[str, Any], content: StoreContent) -> None:
    form, exact = value["_type"].removeprefix("trackio."), value.get("tracelet")
    path = folder / "media" / value["file_path"] if "file_path" in value else None
    assert path is None or path.is_file()
    if form == "markdown" and exact is None:
        content.texts.append((tag, step, value["_value"]))
    elif form == "histogram":
        assert exact is not None
        content.histograms.append((tag, step, tuple(exact["limits"]), tuple(exact["counts"])))
    elif form == "image" and exact is None:
        assert path is not None
        content.images[tag, step] = path.read_bytes()
    elif form == "markdown":
        assert exact is not None
        content.counts[exact["kind"]] += 1
    else:
        content.counts[KINDS[form]] += 1
    for file in (exact or {}).get("files", {}).values():
        assert (folder / "media" / file).is_file()


def _read_artifacts(folder: Path, database: Path, run_id: str | None, content: StoreContent) -> None:
    links = of_run(database, "run_artifact_links", run_id)
    for link in links:
        (version,) = rows(database, "SELECT * FROM artifact_versions WHERE id = ?", link["artifact_version_id"])
        for file in json.loads(version["manifest"]):
            blobs = folder / "artifacts" / database.stem / "blobs" / "sha256"
            content.artifacts[file["path"]] = (blobs / file["digest"][:2] / file["digest"]).read_bytes()
