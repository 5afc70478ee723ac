"""The MLflow run that the records go to: found or begun, and how it ends."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tracelet.backends.base import Status
from tracelet.backends.mlflow.config import MlflowConfig
from tracelet.backends.mlflow.errors import is_missing
from tracelet.backends.mlflow.store import Store, artifacts_beside, prepare
from tracelet.backends.mlflow.values import clean, file_key, key_of, name_tags
from tracelet.errors import BackendUnavailable
from tracelet.records import RunInfo

_RUN_TAG = "tracelet.run_id"
_NOTE = "mlflow.json"
_STATUS: Mapping[Status, str] = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
_TALKATIVE = ("alembic", "mlflow", None)


class Target:
    """A client and a run. `owned`: begun by us, now or in an earlier session, and so ours to end. `known`: it is the
    one that an earlier session wrote to."""

    def __init__(self, client: Any, run: Any, *, owned: bool, known: bool) -> None:
        self.client, self.run, self.owned, self.known = client, run, owned, known
        self.id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id

    def end(self, status: Status) -> None:
        if self.owned:
            self.client.set_terminated(self.id, _STATUS[status])


def connect(place: Store, info: RunInfo, config: MlflowConfig) -> Target:
    """The program's own active run; else the run of an earlier session; else a new one. MLflow's own errors leave."""
    from mlflow import MlflowClient

    with _silence():  # a new store tells of each of its forty migrations
        prepare(place)
        client = MlflowClient(tracking_uri=place.uri)
    told, known = _recall(Path(info.folder)), True
    if told is None and place.run_id and not config.nested:
        run = client.get_run(place.run_id)
        owned = not place.active and run.info.status != "RUNNING"  # `mlflow run` ends what it began
    else:
        run, owned = _earlier(client, told), True if told is None else told["owned"]
        if run is None:
            run, known = _find_or_create(client, place, info, config)
            known = known and told is None
    if owned and run.info.status != "RUNNING":
        client.update_run(run.info.run_id, status="RUNNING")
    _remember(Path(info.folder), run.info.run_id, owned)
    return Target(client, run, owned=owned, known=known)


def _earlier(client: Any, told: Mapping[str, Any] | None) -> Any:
    from mlflow.exceptions import MlflowException

    if told is None:
        return None
    try:
        return client.get_run(told["run_id"])
    except MlflowException as error:
        if is_missing(error):  # another server by now
            return None
        raise


def _find_or_create(client: Any, place: Store, info: RunInfo, config: MlflowConfig) -> tuple[Any, bool]:
    """The run, and whether it was there."""
    experiment_id = _experiment(client, place, info, config)
    # A run that was begun, and the answer of which, or the note, was lost.
    query = f"tags.`{_RUN_TAG}` = '{info.run_id}'"
    for run in client.search_runs([experiment_id], query, max_results=1):
        return run, True
    tags = _tags(place, info, config)
    begun = round(info.created * 1000) if info.created else None
    made = client.create_run(experiment_id, start_time=begun, tags=tags, run_name=config.run_name or info.name)
    return made, False


def _experiment(client: Any, place: Store, info: RunInfo, config: MlflowConfig) -> str:
    from mlflow.exceptions import MlflowException

    name = config.experiment_name or info.project
    if name is None:
        if place.experiment_name is None:
            return place.experiment_id or "0"
        name = place.experiment_name
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_location(place, name, config)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another rank was faster
                raise
            found = client.get_experiment_by_name(name)
    if found.lifecycle_stage != "active":
        advice = f"MlflowClient().restore_experiment({found.experiment_id!r}) brings it back"
        raise BackendUnavailable(f"mlflow: the experiment {name!r} was deleted; {advice}, or choose another name")
    return str(found.experiment_id)


def _location(place: Store, name: str, config: MlflowConfig) -> str | None:
    """Beside a SQLite file: MLflow's own default is wherever the program stands just then."""
    if config.artifact_location is not None or place.database is None:
        return config.artifact_location
    return (artifacts_beside(place.database) / file_key(name).replace("/", "_")).as_uri()


def _tags(place: Store, info: RunInfo, config: MlflowConfig) -> dict[str, str]:
    """MLflow's own about user, source and git, and what the user said about the run."""
    from mlflow.tracking.context.registry import resolve_tags

    given = config.tags
    words = _split(info.tags) | (given if isinstance(given, dict) else _split(given or ()))
    if info.group:
        words["group"] = info.group
    made = _named(words)
    note = config.description or info.notes
    parent = config.parent_run_id or (place.run_id if config.nested else None)
    own = {"mlflow.note.content": note, "mlflow.parentRunId": parent, _RUN_TAG: info.run_id}
    return dict(resolve_tags(made | {key: clean(value) for key, value in own.items() if value}))


def word_tags(words: Iterable[str]) -> dict[str, str]:
    """The run tags of words: `word=value` is the tag `word`, a word alone is `true`."""
    return _named(_split(words))


def _split(words: Iterable[str]) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in words)


def _named(words: Mapping[str, str]) -> dict[str, str]:
    made: dict[str, str] = {}
    for word, value in words.items():
        key = key_of(word)
        made[key] = clean(value or "true")
        made |= dict(name_tags(key, word)) if key != word else {}
    return made


def _remember(folder: Path, run_id: str, owned: bool) -> None:
    """For whoever delivers the rest of the journal."""
    if folder.is_dir():
        (folder / _NOTE).write_text(json.dumps({"run_id": run_id, "owned": owned}), encoding="utf-8")


def _recall(folder: Path) -> dict[str, Any] | None:
    note = folder / _NOTE
    return dict(json.loads(note.read_text(encoding="utf-8"))) if note.exists() else None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No INFO lines of this thread, wherever the program's logging would show them."""
    thread = threading.get_ident()

    def quiet(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno > logging.INFO

    handlers = [handler for name in _TALKATIVE for handler in logging.getLogger(name).handlers]
    for handler in handlers:
        handler.addFilter(quiet)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(quiet)
