"""Record the rows that the program logs: the path of every `wandb.log`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import get_ident
from typing import Any

import msgspec

from tracelet.capture.series import SeriesNames
from tracelet.capture.values import to_text
from tracelet.capture.wandb.runs import WandbRun, WandbRuns
from tracelet.capture.wandb.values import NotCarried, media_file, media_reader, records_of
from tracelet.errors import TraceletError
from tracelet.guard import Guard, described
from tracelet.records import Artifact, File, Params, Record, Scalar, Tags

_PLAIN = frozenset((float, int, str, bool, type(None)))
_INT64 = 2**63
_IDENTITY = ("id", "name", "project", "group", "job_type", "notes")
_UNREAD = object()


class Recorder:
    """Submit records of the program's wandb runs.

    `is_on` is checked when a call begins, not later: in a child process, the first record of a call may make the
    process join the run, which removes this interceptor and installs another.
    """

    def __init__(
        self,
        submit: Callable[[Record], None],
        snapshot: Callable[[Path, str], File | None],
        series: SeriesNames,
        guard: Guard,
    ) -> None:
        self.submit = submit
        self.is_on = True
        self.guard = guard
        self.runs = WandbRuns(series)
        self._snapshot = snapshot
        self._reads: dict[int, dict[int, Any]] = {}
        """By thread: the values of a running call that are on a device, by `id`, as wandb reads them."""

    # The three steps of a call of `log`: `before`, wandb's own, `after`.

    def before(self, run: Any, data: Any) -> Any:
        """Return the data, with copies of the nested dicts: wandb changes those."""
        if not self.is_on:
            return data
        if self.runs.get(run) is None:
            self._add(run)
        if isinstance(data, dict):
            for value in data.values():
                if value.__class__ not in _PLAIN:
                    return self._copied_row(data)
        return data

    def after(self, run: Any, data: Any, step: Any, commit: Any) -> None:
        """Submit the records of a row that wandb accepted."""
        submit, state = self.submit, self.runs.get(run)
        if not self.is_on or state is None:
            return
        if state.is_new:
            self.begin(run)
        row = state.rows.of_call(step, commit)
        if self._reads:
            data = self._with_reads(data)
        now = time.time()
        if "_timestamp" in data:
            now = float(data["_timestamp"])
        if state.axes:
            self._submit_on_axes(state, data, row, now)
            return
        names = state.names
        for key, value in data.items():
            kind = value.__class__
            if kind is float:
                if name := names[key]:
                    submit(Scalar(name, value, row, now))
            elif kind is int and -_INT64 <= value < _INT64:
                if name := names[key]:
                    submit(Scalar(name, float(value), row, now))
            else:
                for _, name, member in state.members({key: value}):
                    self.guard.call(self.submit_value, state, name, member, row, now)

    def _submit_on_axes(self, state: WandbRun, data: Mapping[str, Any], row: int, now: float) -> None:
        members = list(state.members(data))
        state.axes.note((key, value) for key, _, value in members)
        for key, name, value in members:
            self.guard.call(self.submit_value, state, name, value, state.axes.step_of(key, row), now)

    def submit_value(self, state: WandbRun, name: str, value: Any, step: int | None, now: float) -> None:
        """Submit the records of one value; log once per type if it has none."""
        if isinstance(value, list | tuple) and value and all(map(media_reader, value)):
            for index, item in enumerate(value):
                self.submit_value(state, state.names.part(f"{name}/{index}"), item, step, now)
            return
        try:
            for record in records_of(name, value, step, now):
                tag = record.tag  # type: ignore[union-attr]
                if tag != name:
                    record = msgspec.structs.replace(record, tag=state.names.part(tag))
                self.submit(record)
        except (TraceletError, OSError) as error:
            path = media_file(value) if isinstance(error, NotCarried) else None
            if path is not None:
                self.submit_files(f"{name}/{os.path.basename(path)}", {os.path.basename(path): Path(path)})
            else:
                self.leave_out(f"a value of the type {type(value).__name__}", described(error))

    # Values on a device.

    def _copied_row(self, data: dict[str, Any]) -> dict[str, Any]:
        wanted: dict[int, Any] = {}
        copied = _copied(data, wanted)
        thread = get_ident()
        self._reads.pop(thread, None)  # of a call that raised
        if wanted:
            self._reads[thread] = wanted
        return copied

    def on_read(self, value: Any, converted: Any) -> None:
        """Keep what wandb read from a device, so that it is not read twice."""
        wanted = self._reads.get(get_ident())
        if wanted is not None and id(value) in wanted:
            wanted[id(value)] = converted

    def _with_reads(self, data: Any) -> Any:
        wanted = self._reads.pop(get_ident(), None)
        return data if wanted is None else _replaced(data, wanted)

    # What is not a row.

    def _add(self, run: Any) -> WandbRun:
        return self.runs.add(run, getattr(run, "_local_step", 0))

    def begin(self, run: Any) -> WandbRun:
        """Return the state of a run. If it is new, submit the parameters and tags that it has now."""
        state = self.runs.get(run) or self._add(run)
        if state.is_new:
            state.is_new = False
            identity = {f"wandb.{name}": getattr(run, name) for name in _IDENTITY}
            self.submit_params(state, {key: value for key, value in identity.items() if value})
            self.submit_params(state, dict(run.config.items()))
            self.submit_tags(state, run.tags)
        return state

    def submit_params(self, state: WandbRun, values: Mapping[str, Any]) -> None:
        changed = state.new_params(values)
        if changed:
            self.submit(Params(changed, time.time()))

    def submit_tags(self, state: WandbRun, tags: Any) -> None:
        new = state.new_tags(tags)
        if new:
            self.submit(Tags(new, time.time()))

    def stored(self, name: str, paths: Mapping[str, Path]) -> tuple[File, ...]:
        """Store copies of files, and log once if one cannot be read."""
        found = []
        for file_name, path in paths.items():
            try:
                file = self._snapshot(path, to_text(file_name))
            except OSError as error:
                self.leave_out(f"a file of {name}", described(error))
                continue
            found += [] if file is None else [file]
        return tuple(found)

    def submit_files(self, name: str, paths: Mapping[str, Path]) -> None:
        files = self.stored(name, paths)
        if files:
            self.submit(Artifact(name, files, time.time()))

    def leave_out(self, subject: str, reason: str) -> None:
        self.guard.log_once(
            f"left out {subject}", "tracelet: %s that was logged to wandb is left out: %s", subject, reason
        )


def _is_on_device(value: Any) -> bool:
    return getattr(getattr(value, "device", None), "type", "cpu") != "cpu"


def _copied(data: Mapping[str, Any], wanted: dict[int, Any]) -> dict[str, Any]:
    copied = {}
    for key, value in data.items():
        if isinstance(value, dict):
            copied[key] = _copied(value, wanted)
            continue
        copied[key] = value
        if value.__class__ not in _PLAIN and _is_on_device(value):
            wanted[id(value)] = _UNREAD
    return copied


def _replaced(data: Any, reads: Mapping[int, Any]) -> Any:
    if isinstance(data, dict):
        return {key: _replaced(value, reads) for key, value in data.items()}
    read = reads.get(id(data), _UNREAD)
    return data if read is _UNREAD else read
