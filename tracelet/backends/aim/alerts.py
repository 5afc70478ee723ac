"""Alerts: messages of the run's logs, where Aim's page and its notifications look for them."""

from __future__ import annotations

import functools
from typing import Any

from tracelet.backends.aim.series import Ask
from tracelet.backends.aim.values import plain
from tracelet.records import Alert

_NAME = "__log_records"


class Logs:
    """Of one run. The program's own `run.log_info` stands between them."""

    def __init__(self, run: Any, ask: Ask) -> None:
        self._run, self._ask = run, ask

    def put(self, alert: Alert, replayed: int) -> None:
        """Add an alert. `replayed`: it may stand there already, with up to so many others of ours behind it."""
        title, text = plain(alert.title), plain(alert.text)
        if replayed and (alert.wall_time, title) in self._ask(self._said):
            return
        logs = {"warning": self._run.log_warning, "error": self._run.log_error}
        log, words = logs.get(alert.level, self._run.log_info), f"{title}: {text}" if text else title
        self._ask(functools.partial(log, words, timestamp=alert.wall_time, title=title, text=text))

    def _said(self) -> set[tuple[float, str]]:
        """The alerts that the run has. Asked after a death or an outage alone, and there are never many."""
        from aim.storage.context import Context

        info = self._run._tracker.sequence_infos.get((Context({}).idx, _NAME))
        found = set()
        for at in range(0 if info is None or info.count is None else info.count):
            try:
                held = info.val_view[info.step_hash_fn(at)].storage
                found.add((held["timestamp"], held["extra_args"]["title"]))
            except KeyError:  # no point at this step, or a message of the program's own
                continue
        return found
