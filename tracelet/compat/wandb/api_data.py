"""Read from a journal the data of a run: config, summary, tags and files, but not the history."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tracelet.compat.wandb.manifest import ManifestEntry
from tracelet.journal.spool import stored_path
from tracelet.journal.store import JournalReader
from tracelet.records import (
    Artifact,
    File,
    Params,
    Record,
    RunInfo,
    Scalar,
    Summary,
    Tags,
    Text,
    is_system_metric,
    shown_step,
)
from tracelet.runs.folders import journals

_FILE_TYPES = ("file", "directory")
"""Types of records that hold saved files, and not a vendor's artifact."""


class RunData(msgspec.Struct, kw_only=True):
    """The data of a run at the time of reading. `config` and `final` have dotted names."""

    info: RunInfo
    facts: dict[str, Any]
    config: dict[str, Any] = {}
    last_values: dict[str, Any] = {}
    """The last value of each series that is a number or a text."""
    final: dict[str, Any] = {}
    system: dict[str, float] = {}
    tags: list[str] = []
    files: dict[str, ManifestEntry] = {}
    file_times: dict[str, float] = {}
    last_step: int = -1
    last_time: float = 0.0

    def nested_config(self) -> dict[str, Any]:
        return nested(self.config)

    def summary(self) -> dict[str, Any]:
        """Return the last values and the summary metrics. A name of a series stays as it is, also with dots."""
        values = {name: value for name, value in self.final.items() if name in self.last_values}
        dotted = {name: value for name, value in self.final.items() if name not in self.last_values}
        added: dict[str, Any] = {}
        if self.last_step >= 0:
            added = {"_step": self.last_step, "_timestamp": self.last_time}
            added["_runtime"] = max(0.0, self.last_time - self.info.created)
        return {**added, **self.last_values, **values, **nested(dotted)}


def read(folder: Path) -> RunData:
    """Read the data of the run in `folder`, with that of all its ranks.

    Raises:
        JournalError: there is no readable journal.
    """
    with JournalReader(folder) as reader:
        data = RunData(info=reader.info(), facts=reader.facts())
        data.tags = list(data.info.tags)
    for journal in journals(folder):
        with JournalReader(journal) as reader:
            for record in reader.records():
                _add(data, record, journal)
    return data


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted names as nested dicts. A name stays flat if a part of it has a value of its own."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = name.split(".")
        branch: Any = result
        prefixes = (".".join(parents[: index + 1]) for index in range(len(parents)))
        if any(prefix in values for prefix in prefixes) or not all((*parents, last)):
            result[name] = value
            continue
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = value
    return result


def _add(data: RunData, record: Record, folder: Path) -> None:
    match record:
        case Scalar(tag, value, step, wall_time):
            if is_system_metric(tag):
                data.system[tag.rpartition("system/")[2]] = value
            else:
                _add_value(data, tag, value, step, wall_time)
        case Text(tag, text, step, wall_time):
            _add_value(data, tag, text, step, wall_time)
        case Params(values=values):
            data.config.update(values)
        case Summary(values=values):
            data.final.update(values)
        case Tags(tags=tags):
            data.tags = list(dict.fromkeys([*data.tags, *tags]))
        case Artifact(type=kind) if kind in _FILE_TYPES:
            for file in record.files:
                _add_file(data, record, file, folder)
        case _:
            pass


def _add_value(data: RunData, tag: str, value: Any, step: int | None, wall_time: float) -> None:
    data.last_values[tag] = value
    data.last_step = max(data.last_step, shown_step(step))
    data.last_time = max(data.last_time, wall_time)


def _add_file(data: RunData, record: Artifact, file: File, folder: Path) -> None:
    path = stored_path(folder / "files", file.digest)
    if path is not None:
        name = record.name if record.type == "file" else f"{record.name.rstrip('/')}/{file.name}"
        data.files[name] = ManifestEntry(name, local_path=str(path), sha256=file.digest, size=file.size)
        data.file_times[name] = record.wall_time
