"""Run tasks of Flyte without a cluster, and read the runs that they made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import flyte
from backends import csv_store, wandb_store
from flyte._context import internal_ctx
from flyte._internal.controllers import create_controller
from flyte.models import ActionID, RawDataPath, TaskContext
from flyte.report import Report

from tracelet.journal.store import JournalReader
from tracelet.runs.folders import all_runs

RUN_NAME = "job"


def run_task(task: Any, *args: Any, context: dict[str, str] | None = None, name: str = RUN_NAME) -> Any:
    """Return the result of a task in Flyte's local mode, which writes below the working directory only."""
    flyte.init()
    place = Path.cwd() / "flyte"
    options: dict[str, Any] = {"raw_data_path": str(place / "raw"), "custom_context": dict(context or {})}
    runner = flyte.with_runcontext(mode="local", name=name, **options)
    runner._metadata_path = str(place / "metadata")  # else below /tmp
    return runner.run(task, *args).outputs()[0]


def in_task(function: Any, *args: Any, context: dict[str, str] | None = None, **fields: Any) -> Any:
    """Return the result of a function in a task's context, as a process of a cluster has it."""
    values: dict[str, Any] = {"action": ActionID(name="a0", run_name=RUN_NAME), "mode": "local", **fields}
    task = TaskContext(
        version="v",
        raw_data_path=RawDataPath(path=str(Path.cwd() / "raw")),
        output_path=str(Path.cwd() / "out"),
        run_base_dir=str(Path.cwd()),
        report=Report(name="a0"),
        custom_context=dict(context or {}),
        **values,
    )
    create_controller("local")
    with internal_ctx().replace_task_context(task):
        return function(*args)


class Found(NamedTuple):
    """A run in a journal."""

    id: str
    name: str | None
    project: str | None
    group: str | None
    tags: tuple[str, ...]
    status: str | None
    exit_code: int | None
    folder: Path

    @property
    def series(self) -> dict[str, list[float]]:
        """The points that its csv files have."""
        found: dict[str, list[float]] = {}
        for tag, _, value, _ in csv_store.stored(self.folder / "csv").scalars:
            found.setdefault(tag, []).append(value)
        return found

    @property
    def params(self) -> dict[str, Any]:
        return csv_store.stored(self.folder / "csv").params


def journals() -> dict[str, Found]:
    """Return the runs in TRACELET_DIR by id."""
    found = {}
    for folder in all_runs(Path(os.environ["TRACELET_DIR"])):
        with JournalReader(folder) as reader:
            info, facts = reader.info(), reader.facts()
        end = facts.get("status"), facts.get("exit_code")
        found[folder.name] = Found(info.run_id, info.name, info.project, info.group, info.tags, *end, folder)
    return found


def the_run() -> Found:
    """Return the only run."""
    (found,) = journals().values()
    return found


def wandb_runs(folder: Path) -> dict[str, wandb_store.StoredRun]:
    """Return the offline runs of wandb by id; of a resumed one, the last recording."""
    return {run.id: run for run in wandb_store.runs(folder)}


def record_traces(monkeypatch: Any) -> list[tuple[str, Path]]:
    """Return a list that gets the name and the directory of each trace, as Flyte's UI shows them."""
    from flyte._internal.controllers._local_controller import LocalController

    seen: list[tuple[str, Path]] = []
    original = LocalController.record_trace

    async def recorded(controller: Any, info: Any) -> None:
        assert info.error is None
        seen.append((info.name, Path(info.output.path)))
        await original(controller, info)

    monkeypatch.setattr(LocalController, "record_trace", recorded)
    return seen
