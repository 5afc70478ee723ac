"""Convert records other than scalars to events, and store their files and fields in the task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracelet.backends.clearml import plots, values
from tracelet.backends.clearml.task import OpenTask
from tracelet.backends.presentation import alert_page, artifact_files, read_payload, record_files
from tracelet.errors import RecordRejected
from tracelet.records import (
    Alert,
    Artifact,
    Audio,
    File,
    Histogram,
    Image,
    Params,
    Payload,
    PRCurve,
    Record,
    Summary,
    Table,
    Tags,
    Text,
    Video,
    kind,
    shown_step,
)

_IMAGE, _PLOT = "training_debug_image", "plot"
_ALERTS = "alerts/"


class Events:
    """Convert the records of one task."""

    def __init__(self, task: OpenTask) -> None:
        self._task = task

    def write(self, record: Record) -> list[values.Event]:
        """Store the files and fields of a record now, and return its events. The record is not a scalar."""
        step = shown_step(getattr(record, "step", 0))
        if not values.is_valid_step(step):
            raise RecordRejected(f"clearml: step {step} does not fit 64 bits, which a server requires")
        match record:
            case Params(params):
                self._task.set_params(params)
                return []
            case Summary(metrics):
                self._task.set_summary(metrics)
                return values.summary_events(self._task.id, record)
            case Tags(tags):
                self._task.add_tags(tags)
                return []
            case Alert(title=title, wall_time=wall_time):
                # Not a line of the console: a batch that is sent again would duplicate it.
                page = Text(_ALERTS + title, alert_page(record), None, wall_time)
                return [self._medium(page, page.text.encode("utf-8", "backslashreplace"), ".md")]
            case Artifact():
                for path, data in artifact_files(record).items():
                    self._task.upload_artifact(path, data, _metadata(record))
                return []
            case Image(data=data, format=form) | Audio(data=data, format=form) | Video(data=data, format=form):
                return [self._medium(record, data, values.suffix(form))]
            case Text(text=text):
                return [self._medium(record, text.encode("utf-8", "backslashreplace"), ".md")]
            case Histogram():
                return [self._plot(record, plots.histogram_plot(record))]
            case PRCurve():
                return [self._plot(record, plots.curve_plot(record))]
            case Table(data=data):
                return self._table(record, data)
            case _:
                return self._as_files(record)

    def _plot(self, record: Any, plot: str) -> values.Event:
        return values.event(self._task.id, _PLOT, record, values.title_series(record.tag), plot_str=plot)

    def _medium(self, record: Any, data: Payload, suffix: str, label: str = "") -> values.Event:
        title, series = values.title_series(record.tag)
        path = values.file_name(record.tag, shown_step(record.step), _digest(data), suffix)
        fields = self._task.upload_medium(data, path)
        return values.event(self._task.id, _IMAGE, record, (title, series + label), **fields)

    def _table(self, record: Table, data: Payload) -> list[values.Event]:
        text = read_payload(data).decode()
        events = [self._plot(record, plots.table_plot(record, text))]
        if len(text) > plots.MAX_EXACT:
            events.append(self._medium(record, data, ".json", " [table]"))
        return events

    def _as_files(self, record: Any) -> list[values.Event]:
        """Write a record that ClearML cannot draw: its files as media, and its other fields as a JSON file."""
        payloads, facts = record_files(record)
        label = f" [{kind(record)}]"
        media = {
            name: self._medium(record, data, Path(name).suffix or ".bin", f"{label} {values.escape(name)}")
            for name, data in payloads.items()
        }
        fields = {"kind": kind(record), **facts, "files": {name: event["key"] for name, event in media.items()}}
        page = json.dumps(fields, default=str).encode()
        return [*media.values(), self._medium(record, page, ".json", label)]


def _digest(data: Payload) -> str:
    return data.digest if isinstance(data, File) else hashlib.sha256(data).hexdigest()


def _metadata(record: Artifact) -> Mapping[str, Any]:
    return dict(record.metadata) | ({} if record.type == "file" else {"type": record.type})
