"""Write each record to one run of Trackio's local store."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tracelet import records as r
from tracelet.backends.base import Backend, BackendConfig, Batch, Status
from tracelet.backends.capabilities import Probe, Probing, ViewerCommand, Viewing
from tracelet.backends.config import absolute
from tracelet.backends.trackio import values as v
from tracelet.backends.trackio.store import Row, Store, translated
from tracelet.errors import BackendUnavailable, RunNotCreated

_NOT_INSTALLED = 'not installed: pip install "tracelet[trackio]"'
# Trackio's comparison of runs hides keys with "_".
_OWN, _JOURNALS = "_tracelet", "journals"

_SHOWN_AS: dict[type[r.Record], str] = {
    r.Scalar: "Metrics; System Metrics, if tracelet collected it",
    r.Histogram: "Metrics; the exact buckets in the same row",
    **dict.fromkeys((r.Image, r.Audio), "Media"),
    r.Video: "Media, if it is gif, mp4 or webm; else Reports, with the path of its file",
    r.Table: "Media: the first 1,000 rows; the whole table in a file",
    r.PRCurve: "Media, as an image; the exact rows in the same row",
    r.Mesh: "Media: the first mesh; the others in files",
    **dict.fromkeys((r.Text, r.Alert), "Reports"),
    **dict.fromkeys((r.Tensor, r.Embedding, r.Graph, r.Layout, r.RawSummary), "Reports, with the paths of its files"),
    r.Artifact: "Artifacts",
    **dict.fromkeys((r.Params, r.Summary, r.Tags), "the run's configuration"),
}


class TrackioConfig(BackendConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`dir` is Trackio's folder; default: the variable TRACKIO_DIR, or Trackio's own default.

    `project` and `name` default to those of the run.
    """

    path_keys = ("dir",)

    dir: str | None = None
    project: str | None = None
    name: str | None = None

    def persistent(self) -> dict[str, Any]:
        """Return the values that the journal may store, with the folder that the environment names."""
        return super().persistent() | {"dir": absolute(self.dir or os.environ.get("TRACKIO_DIR"))}


class TrackioBackend(Backend, Probing, Viewing):
    """Write records to one run of a Trackio project on this machine. Written records survive a kill of the process.

    The database holds each batch once or not at all. The run's configuration has the last sequence number of each
    journal, which changes in the same transaction as the rows.
    """

    name: ClassVar[str] = "trackio"
    Config = TrackioConfig
    accepts: ClassVar[Mapping[type[r.Record], str]] = _SHOWN_AS
    view_package = "trackio"

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        # Resolved now: the program may change its working directory before `open`.
        folder = self.config.persistent()["dir"]
        self._dir = Path(folder) if folder else None
        self._store: Store | None = None

    def open(self, run: r.RunInfo) -> int:
        """Resume the Trackio run with the id of this run; create it if it does not exist."""
        if not self.probe().ok:
            raise BackendUnavailable(f"trackio: {_NOT_INSTALLED}")
        self._run = run
        # A later run may have the id again, with another journal. Its numbers must not be taken for these.
        self._journal = v.digest(run.run_id, run.created, *([] if run.is_primary else [run.label]))
        # Empty: Trackio writes no configuration without a row, and lists no run without one.
        self._first_row = Row(f"{self._journal}:0", 0, v.timestamp(run.created), {})
        project, name = self.config.project or run.project or "tracelet", self.config.name or run.name or run.run_id
        with translated():
            self._store = Store(self._dir, project, name, run.run_id)
            with self._store.locked():
                config = self._store.read()
                if config is None and not run.is_primary:
                    raise RunNotCreated("trackio: rank 0 has not created the run yet")
                config = config or {"_Created": v.timestamp(run.created)}
                config |= {key: v.to_plain(text) for key, text in (("_Group", run.group), (v.NOTES, run.notes)) if text}
                _add_tags(config, run.tags)
                begun = {"status": "running", "exit_code": None} if run.is_primary else {}
                own = {_JOURNALS: {}, **config.get(_OWN, {}), **begun}
                position = int(own[_JOURNALS].setdefault(self._journal, 0))
                self._store.write([self._first_row], config | {_OWN: own})
        return position

    def write(self, batch: Batch) -> None:
        """Write the records. They have the same ids again if the batch is repeated."""
        with translated(records=True):
            if self._store is None:
                raise BackendUnavailable("trackio: the run is not open")
            with self._store.locked():
                config = self._read(self._store)
                rows, system, alerts = [self._first_row], list[Row](), list[Row]()
                for number, record in zip(batch.numbers, batch, strict=True):
                    match record:
                        case r.Scalar(tag, value) if self._is_collected(record):
                            system.append(self._row(number, record, {v.metric_name(tag): float(value)}))
                        case r.Scalar(tag, value):
                            self._add(rows, number, record, float(value))
                        case r.Params(values):
                            config |= {v.param_name(key): v.to_plain(value) for key, value in values.items()}
                        case r.Summary(values):
                            config[v.SUMMARY] = config.get(v.SUMMARY, {}) | v.to_plain(values)
                        case r.Tags(tags):
                            _add_tags(config, tags)
                        case r.Alert(title, text, level):
                            fields = {"title": title, "text": text, "level": "warn" if level == "warning" else level}
                            alerts.append(self._row(number, record, v.to_plain(fields)))
                        case r.Definition():
                            pass  # not accepted
                        case r.Artifact():
                            self._store.put_artifact(record)
                        case _:
                            put = functools.partial(self._store.put_file, r.shown_step(record.step))
                            self._add(rows, number, record, v.shown(record, put))
                config[_OWN][_JOURNALS][self._journal] = batch.last
                self._store.write(rows, config, system, alerts)

    def _is_collected(self, record: r.Scalar) -> bool:
        """Check if tracelet collected a metric. Its step follows from its time, which is all that Trackio stores."""
        return r.is_system_metric(record.tag) and record.step == max(0, int(record.wall_time - self._run.created))

    def _add(self, rows: list[Row], number: int, record: Any, value: Any) -> None:
        """Add a value to the latest row if that has the same step and time, as after one `trackio.log`."""
        name, row = v.metric_name(record.tag), self._row(number, record, {})
        if len(rows) == 1 or rows[-1][1:3] != row[1:3] or name in rows[-1].values:
            rows.append(row)
        rows[-1].values[name] = value

    def _row(self, number: int, record: Any, values: dict[str, Any]) -> Row:
        # The wall time: after a full disk, numbers of lost records belong to new ones.
        key = f"{self._journal}:{number}:{record.wall_time!r}"
        return Row(key, r.shown_step(getattr(record, "step", None)), v.timestamp(record.wall_time), values)

    def _read(self, store: Store) -> dict[str, Any]:
        config = store.read()
        if config is None or self._journal not in config.get(_OWN, {}).get(_JOURNALS, {}):
            raise BackendUnavailable(f"trackio: the run was deleted from {store.database}", reopen=True)
        return config

    def durable(self) -> int | None:
        """Return 0 if the database was deleted."""
        return None if self._store is None or self._store.database.exists() else 0

    def close(self, status: Status, exit_code: int) -> None:
        """Record the result of the run. Trackio has no status of its own."""
        if self._store is not None:
            with translated(), self._store.locked():
                config = self._read(self._store)
                if self._run.is_primary:
                    config[_OWN] |= {"status": status, "exit_code": exit_code}
                self._store.write([self._first_row], config)
            self._store = None

    @property
    def url(self) -> str | None:
        """Trackio's folder."""
        return None if self._store is None else str(self._store.folder)

    @classmethod
    def view_config(cls, store: Path, run: r.RunInfo) -> dict[str, Any]:
        return {"dir": str(store)}

    @classmethod
    def view_command(cls, store: Path, host: str, port: int) -> ViewerCommand:
        # The command `trackio show` has no options for the port and the browser.
        show = f"import trackio; trackio.show(open_browser=False, share=False, host={host!r}, server_port={port})"
        env = {"TRACKIO_DIR": str(store), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return ViewerCommand((sys.executable, "-c", show), env, without="TRACKIO_|GRADIO_|SPACE_|SYSTEM$")

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Return whether Trackio is installed."""
        is_installed = importlib.util.find_spec("trackio") is not None
        return Probe(is_installed, "installed" if is_installed else _NOT_INSTALLED)


def _add_tags(config: dict[str, Any], tags: tuple[str, ...]) -> None:
    if tags:
        config[v.TAGS] = list(dict.fromkeys([*config.get(v.TAGS, []), *v.to_plain(tags)]))
