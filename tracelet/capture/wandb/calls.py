"""Record the calls of a wandb run that are not rows: parameters, summary, tags, alerts, files, and its end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from threading import get_ident
from typing import Any

from tracelet.capture.values import params, to_plain, to_text
from tracelet.capture.wandb.files import ArtifactFiles, artifact_files, saved_files
from tracelet.capture.wandb.rows import Recorder
from tracelet.capture.wandb.runs import SavedFile, WandbRun
from tracelet.capture.wandb.values import media_reader
from tracelet.records import Alert, Artifact, Summary

_LEVELS = {"INFO": "info", "WARN": "warning", "ERROR": "error"}
_MAX_ITEMS = 32
"""Elements of an array in the summary; a larger one is a record of its own."""


class RunCalls:
    """Record calls that wandb has accepted. Each method has the arguments of the call, after the object and the result.

    In disabled mode, wandb's methods do nothing, and these read the arguments alone.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.logging: set[int] = set()
        """Threads in `log` of a disabled run, which puts the row into the run's summary itself."""

    def begin(self, run: Any, result: Any, *args: Any, **kwargs: Any) -> None:
        self._recorder.begin(run)

    def define_metric(self, run: Any, result: Any, name: str, step_metric: Any = None, *_: Any, **options: Any) -> None:
        axis = getattr(step_metric, "name", step_metric)
        self._recorder.begin(run).axes.define(name, None if axis == "_step" else axis)

    def alert(self, run: Any, result: Any, title: Any, text: Any = "", level: Any = None, *_: Any, **more: Any) -> None:
        name = _LEVELS.get(to_text(getattr(level, "value", level or "INFO")), "info")
        self._recorder.submit(Alert(to_text(title), to_text(text), name, time.time()))

    def attribute(self, run: Any, name: str, value: Any) -> None:
        """Record the new tags, name or notes of a run."""
        state = self._recorder.begin(run)
        if name == "tags":
            self._recorder.submit_tags(state, [value] if isinstance(value, str) else value)
        else:
            self._recorder.submit_params(state, {f"wandb.{name}": value})

    def finish(self, run: Any, result: Any, *args: Any, **kwargs: Any) -> None:
        if state := self._recorder.runs.remove(run):
            self.submit_changed_files(state)

    # Parameters and summary.

    def config_item(self, config: Any, result: Any, key: str, value: Any) -> None:
        key = key.strip("-")
        if (state := self._state_with("_config", config)) and key in config:
            self._recorder.submit_params(state, {key: config[key]})

    def config(self, config: Any, result: Any, *args: Any, **kwargs: Any) -> None:
        if state := self._state_with("_config", config):
            self._recorder.submit_params(state, dict(config.items()))

    def summary(self, summary: Any, result: Any, record: Any) -> None:
        """Record an update of the summary: items with the path of a key and a value."""
        if state := self._state_with("summary", summary):
            self._submit_summary(state, {tuple(item.key): item.value for item in record.update})
            if record.remove:
                self._recorder.leave_out("the removal of a summary value", "records are not removed")

    def disabled_item(self, summary: Any, result: Any, key: str, value: Any) -> None:
        # Reading a nested dict makes it an object of the summary's class, and sets that.
        if type(value) is not type(summary):
            self.disabled_update(summary, result, {key: value})

    def disabled_update(self, summary: Any, result: Any, values: Any = (), /, **more: Any) -> None:
        if get_ident() not in self.logging and (state := self._state_with("summary", summary)):
            self._submit_summary(state, {(key,): value for key, value in dict(values, **more).items()})

    def _submit_summary(self, state: WandbRun, values: Mapping[tuple[str, ...], Any]) -> None:
        plain = {}
        for path, value in values.items():
            if media_reader(value) or getattr(value, "nbytes", 0) > 8 * _MAX_ITEMS:
                name = state.names.claim(".".join(path), f"\0summary {path}")
                self._recorder.submit_value(state, name, value, None, time.time())
            else:
                plain[state.prefix + ".".join(path)] = value
        if plain:
            self._recorder.submit(Summary(params(plain), time.time()))

    # Files.

    def saved(self, run: Any, result: Any, *args: Any, **kwargs: Any) -> None:
        """Record the files that `save` put into the run's folder."""
        paths = {Path(path).relative_to(run.dir).as_posix(): Path(path) for path in result}
        self._submit_saved(self._recorder.begin(run), paths)

    def saved_disabled(self, run: Any, result: Any, glob_str: Any, base_path: Any = None, *_: Any, **more: Any) -> None:
        self._submit_saved(self._recorder.begin(run), saved_files(glob_str, base_path))

    def submit_changed_files(self, state: WandbRun) -> None:
        """Record the saved files again that have changed since: wandb uploads those until the run ends."""
        self._submit_saved(state, {name: saved.path for name, saved in state.saved.items() if saved.path.exists()})

    def _submit_saved(self, state: WandbRun, paths: Mapping[str, Path]) -> None:
        for name, path in paths.items():
            status, before = path.stat(), state.saved.get(name)
            if before is not None and before[:3] == (path, status.st_mtime_ns, status.st_size):
                continue
            for file in self._recorder.stored(name, {path.name: path}):
                state.saved[name] = SavedFile(path, status.st_mtime_ns, status.st_size, file.digest)
                if before is None or before.digest != file.digest:
                    self._recorder.submit(Artifact(state.prefix + to_text(name), (file,), time.time()))

    def read_artifact(self, artifact_or_path: Any, *_: Any, **options: Any) -> tuple[Any, ArtifactFiles] | None:
        """Store the files of an artifact before wandb's call, which may delete its copies once they are uploaded."""
        found = artifact_files(artifact_or_path)
        if found is None:
            return None
        return self._recorder.stored("an artifact", found.paths), found

    def artifact(
        self,
        run: Any,
        read: Any,
        result: Any,
        artifact_or_path: Any,
        name: Any = None,
        type: Any = None,
        aliases: Any = None,
        *_: Any,
        **more: Any,
    ) -> None:
        """Record an artifact that wandb accepted, with the files that `read_artifact` stored."""
        if read is None:
            return
        state = self._recorder.begin(run)
        files, found = read
        title, kind, metadata = name, type, {}
        # A path has become wandb's artifact; in disabled mode it stays a path.
        source = artifact_or_path if run.disabled else result
        if not isinstance(source, str | os.PathLike):
            title, kind, metadata = source.name, source.type, dict(source.metadata)
            metadata |= {"description": source.description} if source.description else {}
        metadata |= {"references": found.references} if found.references else {}
        metadata |= {"aliases": list(aliases)} if aliases else {}
        title = to_text(title or Path(source).name).partition(":")[0]
        record = Artifact(state.prefix + title, files, time.time(), to_text(kind or "unspecified"), to_plain(metadata))
        self._recorder.submit(record)

    def read_model(self, path: Any, *_: Any, **options: Any) -> tuple[Any, ArtifactFiles] | None:
        return self.read_artifact(path)

    def model(
        self, run: Any, read: Any, result: Any, path: Any, name: Any = None, aliases: Any = None, **more: Any
    ) -> None:
        """Record `log_model` of a disabled run."""
        self.artifact(run, read, result, path, name, "model", aliases)

    # The runs.

    def _state_with(self, attribute: str, value: Any) -> WandbRun | None:
        """Return the state of the run whose config or summary this is; None before the run has begun."""
        states = self._recorder.runs.states()
        return next((state for state in states if getattr(state.run, attribute, None) is value), None)
