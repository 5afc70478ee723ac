"""Find, create and end the MLflow run for the records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tracelet.backends.base import Status
from tracelet.backends.mlflow.config import MlflowConfig
from tracelet.backends.mlflow.connection import Store, prepare
from tracelet.backends.mlflow.errors import is_missing
from tracelet.backends.mlflow.host import silenced
from tracelet.backends.mlflow.values import clean, digest, file_key, key_of, renamed
from tracelet.backends.notes import note_path, read_note, write_note
from tracelet.errors import BackendUnavailable, RunNotCreated
from tracelet.records import RunInfo

_RUN_TAG, _HELD_TAG = "tracelet.run_id", "tracelet.held."
_MAX_SECONDS = 2**62 / 1000
# MLflow 3 would open the page of a new experiment for GenAI, without its charts.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


class _Note(msgspec.Struct):
    """The content of `mlflow.json` in the run's folder, by which a later delivery finds the same run."""

    run_id: str
    owned: bool


class Target:
    """A client and a run.

    `owned`: tracelet started the run, now or in an earlier session, so tracelet ends it. `held_tag`: the run tag with
    the last sequence number up to which the run has every record. Journals of several programs may share a run, also
    with the same run id on several hosts, so each has a tag of its own.
    """

    def __init__(self, client: Any, run: Any, info: RunInfo, *, owned: bool) -> None:
        self.client, self.run, self.owned = client, run, owned
        self.id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.tags: dict[str, str] = dict(run.data.tags)
        self.is_shared = info.label is not None
        self.label = None if info.is_primary else info.label
        rank = f" {self.label}" if self.label else ""
        self.held_tag = _HELD_TAG + digest(f"{info.run_id} {info.created!r}{rank}")

    def end(self, status: Status, ended: float | None) -> None:
        """End the run if tracelet owns it. `ended` is the time of its end, if that was earlier."""
        if self.owned:
            time = _milliseconds(ended)
            self.client.set_terminated(self.id, status.upper(), time and max(time, self.run.info.start_time))


def connect(store: Store, info: RunInfo, config: MlflowConfig) -> Target:
    """Use the program's own active run, the run of an earlier session, or a new one. Raises MLflow's own errors."""
    from mlflow import MlflowClient

    with silenced():  # a new store logs each of its forty migrations
        prepare(store)
        client = MlflowClient(tracking_uri=store.uri)
    note = read_note(note_path(Path(info.folder), "mlflow"), _Note)
    if note is None and store.run_id and not config.nested:
        run = client.get_run(store.run_id)
        is_ended = not store.active and run.info.status != "RUNNING"  # `mlflow run` ends its own run
        owned = is_ended and info.is_primary
    else:
        run = _earlier_run(client, note) or _find_or_create(client, store, info, config)
        owned = info.is_primary and (note is None or note.owned)
    if owned and run.info.status != "RUNNING":
        client.update_run(run.info.run_id, status="RUNNING")
    if Path(info.folder).is_dir():
        content = json.dumps({"run_id": run.info.run_id, "owned": owned})
        write_note(note_path(Path(info.folder), "mlflow"), content.encode())
    return Target(client, run, info, owned=owned)


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


def _find_or_create(client: Any, store: Store, info: RunInfo, config: MlflowConfig) -> Any:
    experiment_id = _experiment(client, store, info, config)
    # The run exists already if an earlier session lost the server's answer, or its note.
    for run in client.search_runs([experiment_id], f"tags.`{_RUN_TAG}` = '{info.run_id}'", max_results=1):
        return run
    if not info.is_primary:
        raise RunNotCreated("mlflow: rank 0 has not created the run yet")
    tags, start_time = _tags(store, info, config), _milliseconds(info.created)
    return client.create_run(experiment_id, start_time=start_time, tags=tags, run_name=config.run_name or info.name)


def _milliseconds(seconds: float | None) -> int | None:
    """Convert a time; None if it is unknown, or none that MLflow can store."""
    return round(seconds * 1000) if seconds and 0 < seconds < _MAX_SECONDS else None


def _experiment(client: Any, store: Store, info: RunInfo, config: MlflowConfig) -> str:
    from mlflow.exceptions import MlflowException

    if config.experiment_id is not None:
        return config.experiment_id
    name = config.experiment_name or info.project or store.experiment_name
    if name is None:
        return store.experiment_id or "0"
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = config.artifact_location
        if location is None and store.artifacts is not None:
            location = (store.artifacts / file_key(name).replace("/", "_")).as_uri()
        try:
            return str(client.create_experiment(name, location, _EXPERIMENT_TAGS))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another rank was faster
                raise
            experiment = client.get_experiment_by_name(name)
    if experiment.lifecycle_stage != "active":
        advice = f"restore it with MlflowClient().restore_experiment({experiment.experiment_id!r})"
        raise BackendUnavailable(f"mlflow: the experiment {name!r} was deleted; {advice}, or choose another name")
    return str(experiment.experiment_id)


def _tags(store: Store, info: RunInfo, config: MlflowConfig) -> dict[str, str]:
    """Return MLflow's own tags (user, source, git) and the user's settings for the run."""
    from mlflow.tracking.context.registry import resolve_tags

    configured = config.tags if isinstance(config.tags, dict) else _split(config.tags or ())
    group = {"group": info.group} if info.group else {}
    own = {
        "mlflow.note.content": config.description or info.notes,
        "mlflow.parentRunId": config.parent_run_id or (store.run_id if config.nested else None),
        _RUN_TAG: info.run_id,
    }
    tags = _named(_split(info.tags) | configured | group)
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
        tags |= {key: clean(value or "true"), **renamed(key, name)}
    return tags
