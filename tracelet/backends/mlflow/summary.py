"""Write the run's summary: numbers as metrics, by which MLflow sorts and compares runs, other values as run tags."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracelet.backends.mlflow.run import Target

SUMMARY_FILE = "tracelet/summary.json"
_PREFIX = "summary/"
_TAG_LENGTH = 4000


class SummaryMetrics:
    """Track the last value of each summary entry."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._exact: dict[str, Any] | None = None

    def update(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Add values, and return the new content of the summary file."""
        if self._exact is None:
            self._exact = read_artifact_json(self._target, SUMMARY_FILE)
        self._exact |= values
        return self._exact


def summary_name(name: str) -> str:
    """Return the metric or tag of a summary entry. The prefix separates it from a metric of the same name."""
    return _PREFIX + name


def is_number(value: Any) -> bool:
    """Check if a value becomes a metric."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def tag_text(value: Any) -> str:
    """Return the text of a run tag for a value that is no number."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _TAG_LENGTH else text[: _TAG_LENGTH - 1] + "…"


def read_artifact_json(target: Target, path: str) -> dict[str, Any]:
    """Read an earlier session's JSON file from the run's artifacts; empty if there is none."""
    folder = path.rpartition("/")[0]
    if not any(artifact.path == path for artifact in target.client.list_artifacts(target.id, folder)):
        return {}
    with tempfile.TemporaryDirectory() as temporary:
        file = target.client.download_artifacts(target.id, path, temporary)
        return dict(json.loads(Path(file).read_text(encoding="utf-8")))
