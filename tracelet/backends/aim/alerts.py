"""Write alerts to the logs of the run, the source of Aim's page and notifications."""

from __future__ import annotations

import functools
from typing import Any

from tracelet import records as r
from tracelet.backends.aim.series import Query
from tracelet.backends.aim.values import to_plain

_NAME = "__log_records"


class AlertLog:
    """The alerts of one run. Messages of the program's own `run.log_info` are in the same log."""

    def __init__(self, run: Any, query: Query) -> None:
        self._run, self._query = run, query

    def put(self, alert: r.Alert, is_replayed: bool) -> None:
        """Add an alert. If it is replayed, skip it if the run already has it."""
        title, text = to_plain(alert.title), to_plain(alert.text)
        if is_replayed and (alert.wall_time, title) in self._query(self._stored):
            return
        methods = {"warning": self._run.log_warning, "error": self._run.log_error}
        log, message = methods.get(alert.level, self._run.log_info), f"{title}: {text}" if text else title
        self._query(functools.partial(log, message, timestamp=alert.wall_time, title=title, text=text))

    def _stored(self) -> set[tuple[float, str]]:
        """Return the alerts in the run. Only called after a crash or an outage; there are never many."""
        from aim.storage.context import Context

        info = self._run._tracker.sequence_infos.get((Context({}).idx, _NAME))
        alerts = set()
        for step in range(0 if info is None or info.count is None else info.count):
            try:
                storage = info.val_view[info.step_hash_fn(step)].storage
                alerts.add((storage["timestamp"], storage["extra_args"]["title"]))
            except KeyError:  # no point at this step, or a message of the program
                continue
        return alerts
