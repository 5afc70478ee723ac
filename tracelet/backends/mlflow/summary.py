"""The run's summary: numbers are metrics, which MLflow sorts and compares runs by; everything else is a run tag."""

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
    """`exact`: every figure as the program last gave it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._exact: dict[str, Any] | None = None

    def took(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the file of all figures holds from now on."""
        if self._exact is None:
            self._exact = kept_json(self._target, SUMMARY_FILE)
        self._exact |= values
        return self._exact


def name_of(figure: str) -> str:
    """The metric or tag of a figure: a curve may have the figure's own name."""
    return _PREFIX + figure


def is_number(value: Any) -> bool:
    """Whether a figure is a metric."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def tag_text(value: Any) -> str:
    """A figure that is no number as a run tag shows it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _TAG_LENGTH else text[: _TAG_LENGTH - 1] + "…"


def kept_json(target: Target, path: str) -> dict[str, Any]:
    """A JSON file that an earlier session left in the run's artifacts; empty where there is none."""
    folder = path.rpartition("/")[0]
    if not any(one.path == path for one in target.client.list_artifacts(target.id, folder)):
        return {}
    with tempfile.TemporaryDirectory() as place:
        found = target.client.download_artifacts(target.id, path, place)
        return dict(json.loads(Path(found).read_text(encoding="utf-8")))
