"""Send alerts, each title once in a while."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from tracelet.compat.wandb.errors import UsageError
from tracelet.experiment import Experiment
from tracelet.guard import shown

_LEVELS = {"INFO": "info", "WARN": "warning", "ERROR": "error"}
_WAIT = 60.0


class Alerts:
    """The alerts of one run."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._sent: dict[str, float] = {}

    def send(self, title: str, text: str, level: Any, wait: int | float | timedelta | None) -> None:
        """Send an alert, unless one with this title was sent in the last `wait` seconds.

        Raises:
            ValueError: the level is unknown.
            UsageError: the title is empty.
        """
        if not str(title).strip():
            raise UsageError("alert: the title must not be empty")
        word = str(getattr(level, "value", level) or "INFO").upper()
        if word not in _LEVELS:
            raise ValueError(f"alert: level must be one of {', '.join(_LEVELS)}, got {shown(level)}")
        seconds = wait.total_seconds() if isinstance(wait, timedelta) else wait
        now = time.monotonic()
        if now - self._sent.get(title, -float("inf")) >= (_WAIT if seconds is None else seconds):
            self._sent[title] = now
            self._experiment.alert(title, text, _LEVELS[word])  # type: ignore[arg-type]
