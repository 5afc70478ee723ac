"""Find, create and end the MLflow run for the records."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tracelet.backends.base import Status
from tracelet.backends.mlflow.config import MlflowConfig
from tracelet.backends.mlflow.errors import is_missing
from tracelet.backends.mlflow.store import Store, artifacts_beside, prepare
from tracelet.backends.mlflow.values import clean, file_key, key_of, name_tags
from tracelet.backends.notes import note_path, read_note, write_note
from tracelet.errors import BackendUnavailable
from tracelet.records import RunInfo

_RUN_TAG = "tracelet.run_id"
_STATUS: Mapping[Status, str] = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
_MAX_SECONDS = 2**62 / 1000
_LOGGERS = ("alembic", "mlflow", None)


class _Note(msgspec.Struct):
    """The content of `mlflow.json` in the run's folder."""

    run_id: str
    owned: bool


class Target:
    """A client and a run.

    `owned`: tracelet started the run, now or in an earlier session, so tracelet ends it. `known`: an earlier session
    wrote to the same run.
    """

    def __init__(self, client: Any, run: Any, *, owned: bool, known: bool) -> None:
        self.client, self.run, self.owned, self.known = client, run, owned, known
        self.id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id

    def end(self, status: Status, ended: float | None) -> None:
        """End the run if tracelet owns it. `ended` is the time of its end, if that was earlier."""
        if self.owned:
            end_time = _milliseconds(ended)
            if end_time is not None:
                end_time = max(end_time, self.run.info.start_time)
            self.client.set_terminated(self.id, _STATUS[status], end_time)


def connect(store: Store, info: RunInfo, config: MlflowConfig) -> Target:
    """Use the program's own active run, the run of an earlier session, or a new one. Raises MLflow's own errors."""
    from mlflow import MlflowClient

    with _silence():  # a new store logs each of its forty migrations
        prepare(store)
        client = MlflowClient(tracking_uri=store.uri)
    note, known = read_note(note_path(Path(info.folder), "mlflow"), _Note), True
    if note is None and store.run_id and not config.nested:
        run = client.get_run(store.run_id)
        owned = not store.active and run.info.status != "RUNNING"  # `mlflow run` ends its own run
    else:
        run, owned = _earlier_run(client, note), True if note is None else note.owned
        if run is None:
            run, known = _find_or_create(client, store, info, config)
            known = known and note is None
    if owned and run.info.status != "RUNNING":
        client.update_run(run.info.run_id, status="RUNNING")
    _save_note(Path(info.folder), run.info.run_id, owned)
    return Target(client, run, owned=owned, known=known)


def _earlier_run(client: Any, note: _Note | None) -> Any:
    from mlflow.exceptions import MlflowException

    if note is None:
        return None
    try:
        return client.get_run(note.run_id)
    except MlflowException as error:
        if is_missing(error):  # the server is another one than before
            return None
        raise


def _find_or_create(client: Any, store: Store, info: RunInfo, config: MlflowConfig) -> tuple[Any, bool]:
    """Return the run, and True if it existed."""
    experiment_id = _experiment(client, store, info, config)
    # The run exists already if an earlier session lost the server's answer, or its note.
    query = f"tags.`{_RUN_TAG}` = '{info.run_id}'"
    for run in client.search_runs([experiment_id], query, max_results=1):
        return run, True
    tags = _tags(store, info, config)
    start_time = _milliseconds(info.created)
    run = client.create_run(experiment_id, start_time=start_time, tags=tags, run_name=config.run_name or info.name)
    return run, False


def _milliseconds(seconds: float | None) -> int | None:
    """Convert a time; None if it is unknown, or none that MLflow can store."""
    return round(seconds * 1000) if seconds and 0 < seconds < _MAX_SECONDS else None


def _experiment(client: Any, store: Store, info: RunInfo, config: MlflowConfig) -> str:
    from mlflow.exceptions import MlflowException

    name = config.experiment_name or info.project
    if name is None:
        if store.experiment_name is None:
            return store.experiment_id or "0"
        name = store.experiment_name
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location=_location(store, name, config)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another rank was faster
                raise
            experiment = client.get_experiment_by_name(name)
    if experiment.lifecycle_stage != "active":
        advice = f"restore it with MlflowClient().restore_experiment({experiment.experiment_id!r})"
        raise BackendUnavailable(f"mlflow: the experiment {name!r} was deleted; {advice}, or choose another name")
    return str(experiment.experiment_id)


def _location(store: Store, name: str, config: MlflowConfig) -> str | None:
    """Return a folder beside a SQLite file. MLflow's own default is relative to the current working directory."""
    if config.artifact_location is not None or store.database is None:
        return config.artifact_location
    return (artifacts_beside(store.database) / file_key(name).replace("/", "_")).as_uri()


def _tags(store: Store, info: RunInfo, config: MlflowConfig) -> dict[str, str]:
    """Return MLflow's own tags (user, source, git) and the user's settings for the run."""
    from mlflow.tracking.context.registry import resolve_tags

    configured = config.tags if isinstance(config.tags, dict) else _split(config.tags or ())
    values = _split(info.tags) | configured
    if info.group:
        values["group"] = info.group
    tags = _named(values)
    description = config.description or info.notes
    parent = config.parent_run_id or (store.run_id if config.nested else None)
    own = {"mlflow.note.content": description, "mlflow.parentRunId": parent, _RUN_TAG: info.run_id}
    return dict(resolve_tags(tags | {key: clean(value) for key, value in own.items() if value}))


def run_tags(tags: Iterable[str]) -> dict[str, str]:
    """Convert tags to MLflow's: `name=value` becomes the tag `name`; a name alone has the value `true`."""
    return _named(_split(tags))


def _split(tags: Iterable[str]) -> dict[str, str]:
    return dict(tag.partition("=")[::2] for tag in tags)


def _named(values: Mapping[str, str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for name, value in values.items():
        key = key_of(name)
        tags[key] = clean(value or "true")
        tags |= dict(name_tags(key, name)) if key != name else {}
    return tags


def _save_note(folder: Path, run_id: str, owned: bool) -> None:
    """Save the run id for a later delivery of the journal."""
    if folder.is_dir():
        write_note(note_path(folder, "mlflow"), json.dumps({"run_id": run_id, "owned": owned}).encode())


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress INFO lines of this thread in the handlers of the program's logging."""
    thread = threading.get_ident()

    def accepts(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno > logging.INFO

    handlers = [handler for name in _LOGGERS for handler in logging.getLogger(name).handlers]
    for handler in handlers:
        handler.addFilter(accepts)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(accepts)
