"""Reports as plain data for other programs. As text it is strict JSON: NaN and the infinities are the strings "NaN",
"Infinity" and "-Infinity", which `float` in Python and `Number` in JavaScript read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from tracelet.runs.comparison import MISSING, Comparison, Row
from tracelet.runs.report import DownsampledSeries, RunReport, RunSummary

_JSON_KEYS = {"pending": "waiting", "pending_upload": "offline_store"}
"""Fields of `BackendState` whose documented key in the output is another word."""


def of_run(report: RunReport) -> dict[str, Any]:
    """Everything that `tracelet show` knows of a run."""
    return {
        **of_summary(report.summary),
        "tags": report.tags,
        "params": report.params,
        "final": report.final,
        "git": report.git,
        "environment": report.environment,
        "scalars": {tag: _figures(one) for tag, one in report.scalars.items()},
        "others": report.others,
        "artifacts": {
            name: {
                "type": one.type,
                "files": one.files,
                "size": one.size,
                "versions": one.versions,
                "listed": [{"name": file.name, "size": file.size, "sha256": file.digest} for file in one.listed],
            }
            for name, one in report.artifacts.items()
        },
        "alerts": [
            {"title": one.title, "text": one.text, "level": one.level, "time": one.wall_time} for one in report.alerts
        ],
        "refusals": {name: msgspec.to_builtins(found) for name, found in report.refusals.items()},
        "damaged": report.damaged,
    }


def of_comparison(comparison: Comparison) -> dict[str, Any]:
    """Lists are in the order of `runs`; what a run does not have is null there, and not in its `has`."""
    return {
        "runs": [
            {"label": label, **of_summary(run.summary), "tags": run.tags}
            for label, run in zip(comparison.labels, comparison.runs, strict=True)
        ],
        "params": {line.name: _line(line) for line in comparison.params},
        "final": {line.name: _line(line) for line in comparison.final},
        "scalars": {
            tag: [None if one is None else _figures(one) for one in found] for tag, found in comparison.series.items()
        },
    }


def text(told: Any) -> str:
    """Strict JSON, in ASCII: it survives any terminal and any pipe."""
    return json.dumps(_strict(told), indent=2, ensure_ascii=True, allow_nan=False)


def of_summary(summary: RunSummary) -> dict[str, Any]:
    """A run without what is in it."""
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
        "backends": {
            state.name: {
                _JSON_KEYS.get(key, key): getattr(state, key) for key in state.__struct_fields__ if key != "name"
            }
            for state in summary.backends
        },
    }


def _figures(one: DownsampledSeries) -> dict[str, Any]:
    return {
        "points": one.count,
        "nans": one.nans,
        "first": one.first,
        "last": one.last,
        "min": one.minimum,
        "max": one.maximum,
    }


def _line(line: Row) -> dict[str, Any]:
    return {
        "differs": line.differs,
        "values": [None if value is MISSING else value for value in line.values],
        "has": [value is not MISSING for value in line.values],
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
