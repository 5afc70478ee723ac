"""Convert reports to plain data and strict JSON.

NaN and the infinities become the strings "NaN", "Infinity" and "-Infinity". `float` in Python and `Number` in
JavaScript read them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import asdict

from tracelet.journal.status import BackendStatus
from tracelet.runs.comparison import MISSING, Comparison, Row
from tracelet.runs.report import DownsampledSeries, RunReport
from tracelet.runs.summary import RunSummary


def of_backends(backends: Iterable[BackendStatus]) -> dict[str, Any]:
    """Return the status of each backend, by its name."""
    return {one.name: {key: value for key, value in asdict(one).items() if key != "name"} for one in backends}


def of_run(report: RunReport) -> dict[str, Any]:
    """Return everything that `tracelet show` reads of a run."""
    return {
        **of_summary(report.summary),
        "tags": report.tags,
        "params": report.params,
        "final": report.final,
        "git": report.git,
        "environment": report.environment,
        "scalars": {tag: _statistics(series) for tag, series in report.scalars.items()},
        "others": report.others,
        "artifacts": {
            name: {
                "type": artifact.type,
                "files": artifact.files,
                "size": artifact.size,
                "versions": artifact.versions,
                "listed": [{"name": file.name, "size": file.size, "sha256": file.digest} for file in artifact.listed],
            }
            for name, artifact in report.artifacts.items()
        },
        "alerts": [
            {"title": alert.title, "text": alert.text, "level": alert.level, "time": alert.wall_time}
            for alert in report.alerts
        ],
        "refusals": {name: msgspec.to_builtins(refusals) for name, refusals in report.refusals.items()},
        "damaged": report.damaged,
    }


def of_comparison(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison. Lists follow the order of `runs`; a missing value is null, and false in `has`."""
    return {
        "runs": [
            {"label": label, **of_summary(run.summary), "tags": run.tags}
            for label, run in zip(comparison.labels, comparison.runs, strict=True)
        ],
        "params": {row.name: _row(row) for row in comparison.params},
        "final": {row.name: _row(row) for row in comparison.final},
        "scalars": {
            tag: [None if series is None else _statistics(series) for series in runs]
            for tag, runs in comparison.series.items()
        },
    }


def text(data: Any, *, indent: int | None = 2) -> str:
    """Return strict JSON in ASCII, which any terminal and any pipe accepts."""
    return json.dumps(_strict(data), indent=indent, ensure_ascii=True, allow_nan=False)


def of_summary(summary: RunSummary) -> dict[str, Any]:
    """Return a run without its records."""
    info = summary.info
    return {
        "run_id": info.run_id,
        "name": info.name,
        "project": info.project,
        "group": info.group,
        "notes": info.notes,
        "folder": str(summary.folder),
        "status": summary.status,
        "exit_code": summary.exit_code,
        "started": info.created,
        "seen": summary.seen,
        "records": summary.records,
        "journal_removed": summary.journal_removed,
        "backends": of_backends(summary.backends),
    }


def _statistics(series: DownsampledSeries) -> dict[str, Any]:
    return {
        "points": series.count,
        "nans": series.nans,
        "first": series.first,
        "last": series.last,
        "min": series.minimum,
        "max": series.maximum,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "differs": row.differs,
        "values": [None if value is MISSING else value for value in row.values],
        "has": [value is not MISSING for value in row.values],
    }


def _strict(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        case Mapping():
            return {str(key): _strict(item) for key, item in value.items()}
        case list() | tuple():
            return [_strict(item) for item in value]
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)
