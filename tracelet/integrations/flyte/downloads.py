"""Download the files, the summary and the history of runs: from W&B, or from the journals on this machine.

`get_wandb_run_dir` needs no network. The functions here read what has arrived, also after a task has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import flyte
from flyte.io import Dir

from tracelet.backends.wandb import WandbBackend
from tracelet.backends.wandb.errors import import_wandb
from tracelet.backends.wandb.offline import Note
from tracelet.compat.wandb.api_runs import Run as LocalRun
from tracelet.guard import logger
from tracelet.integrations.flyte import runs
from tracelet.integrations.flyte.context import get_wandb_context, get_wandb_sweep_context, task_context
from tracelet.integrations.flyte.current import get_wandb_run, get_wandb_sweep_id
from tracelet.integrations.flyte.names import WANDB
from tracelet.journal.store import JournalReader
from tracelet.runs.folders import all_runs
from tracelet.settings import load

SUMMARY_FILE, HISTORY_FILE = "summary.json", "metrics_history.json"


def download_wandb_run_dir(run_id: str | None = None, path: str | None = None, include_history: bool = True) -> str:
    """Download the files of a run, `summary.json`, and all rows of its history as `metrics_history.json`.

    Args:
        run_id: The run; default: that of the current task.
        path: The folder; default: `wandb_runs/{run_id}` in the folder for temporary files.
        include_history: False: without the history.

    Returns:
        The folder.

    Raises:
        RuntimeError: there is no run, or it cannot be read or written.
    """
    run_id = run_id or task_context().get(runs.RUN_KEY) or getattr(get_wandb_run(), "id", None)
    if not run_id:
        raise RuntimeError(
            "No run_id provided and no active wandb run found in context. Pass run_id, or call this in a task with "
            "@wandb_init"
        )
    path = path or os.path.join(_base(), run_id)
    with _Failing(lambda error: f"Failed to create download directory {path}: {error}"):
        os.makedirs(path, exist_ok=True)
    folder = _local_folder(run_id)
    run = _of_server(run_id) if folder is None or _is_at_server(folder) else LocalRun(folder)
    with _Failing(lambda error: f"Failed to download files for run {run_id!r}: {error}"):
        for file in run.files():
            with contextlib.closing(file.download(root=path, replace=True)):
                pass
    with _Failing(lambda error: f"Failed to write {SUMMARY_FILE} for run {run_id!r}: {error}"):
        _write(path, SUMMARY_FILE, dict(run.summary))
    if include_history:
        with _Failing(lambda error: f"Failed to write {HISTORY_FILE} for run {run_id!r}: {error}"):
            _write(path, HISTORY_FILE, list(run.scan_history()))  # `history()` is a sample of 500 rows
    return path


def download_wandb_sweep_dirs(
    sweep_id: str | None = None, base_path: str | None = None, include_history: bool = True
) -> list[str]:
    """Download all runs of a sweep, each to a folder with the name of its id.

    Args:
        sweep_id: The sweep; default: that of the current task.
        base_path: The folder of these folders; default: `wandb_runs` in the folder for temporary files.
        include_history: As in `download_wandb_run_dir`.

    Returns:
        The folders of the runs. If only some runs fail, they are missing, with a warning.

    Raises:
        RuntimeError: there is no sweep, it cannot be read, or no run could be downloaded.
    """
    sweep_id = sweep_id or get_wandb_sweep_id()
    if not sweep_id:
        raise RuntimeError(
            "No sweep_id provided and no active wandb sweep found in context. Pass sweep_id, or call this in a task "
            "with @wandb_sweep"
        )
    entity, project = _place(get_wandb_sweep_context(), get_wandb_context())
    if not entity or not project:
        raise RuntimeError("Cannot query sweep without entity and project. Set them with wandb_config()")
    with _server_errors(f"sweep {f'{entity}/{project}/{sweep_id}'!r}"):
        run_ids = [run.id for run in import_wandb().Api().sweep(f"{entity}/{project}/{sweep_id}").runs]
    paths, failures = [], []
    for run_id in run_ids:
        path = os.path.join(base_path or _base(), run_id)
        try:
            paths.append(download_wandb_run_dir(run_id=run_id, path=path, include_history=include_history))
        except RuntimeError as error:
            failures.append(f"{run_id} ({error})")
    if failures and not paths:
        raise RuntimeError(f"Failed to download all {len(run_ids)} runs for sweep {sweep_id!r}: {', '.join(failures)}")
    if failures:
        failed = ", ".join(failures)
        logger.warning(
            "tracelet: Failed to download %d/%d runs for sweep %r: %s", len(failures), len(run_ids), sweep_id, failed
        )
    return paths


@flyte.trace  # type: ignore[untyped-decorator]
async def download_wandb_run_logs(run_id: str) -> Dir:
    """Download a run as `download_wandb_run_dir` does, and return its files as a directory of Flyte, with a trace."""
    return await Dir.from_local(download_wandb_run_dir(run_id))


@flyte.trace  # type: ignore[untyped-decorator]
async def download_wandb_sweep_logs(sweep_id: str) -> Dir:
    """Download the runs of a sweep, and return their files as a directory of Flyte, with a trace."""
    return await Dir.from_local(_sweep_folder(sweep_id))


def _run_logs(run_id: str) -> Dir:
    return Dir.from_local_sync(download_wandb_run_dir(run_id))


def _sweep_logs(sweep_id: str) -> Dir:
    return Dir.from_local_sync(_sweep_folder(sweep_id))


_run_logs.__name__, _sweep_logs.__name__ = "download_wandb_run_logs", "download_wandb_sweep_logs"
_traced_run_logs, _traced_sweep_logs = flyte.trace(_run_logs), flyte.trace(_sweep_logs)
"""The same for functions that are not asynchronous."""


async def attach_run(run_id: str) -> None:
    """Attach the files of a run to the task that has finished. A failure is logged: the task has its result."""
    with _logged():
        await download_wandb_run_logs(run_id)


def attach_run_sync(run_id: str) -> None:
    with _logged():
        _traced_run_logs(run_id)


async def attach_sweep(sweep_id: str) -> None:
    with _logged():
        await download_wandb_sweep_logs(sweep_id)


def attach_sweep_sync(sweep_id: str) -> None:
    with _logged():
        _traced_sweep_logs(sweep_id)


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        logger.warning("tracelet: download_logs: %s", error)


def _base() -> str:
    return os.path.join(tempfile.gettempdir(), "wandb_runs")


def _sweep_folder(sweep_id: str) -> str:
    folder = os.path.join(_base(), f"sweep-{sweep_id}")
    os.makedirs(folder, exist_ok=True)
    download_wandb_sweep_dirs(sweep_id, folder)
    return folder


def _local_folder(run_id: str) -> Path | None:
    """Return the folder of a run on this machine, or None."""
    known = runs.folders.get(run_id)
    if known is not None:
        return known
    return next((folder for folder in all_runs(Path(load({}).dir)) if folder.name == run_id), None)


def _is_at_server(folder: Path) -> bool:
    """Return True if W&B's server has the whole run."""
    with JournalReader(folder) as reader:
        is_sent = WANDB in reader.cursors()
    return is_sent and runs.is_online() and WandbBackend.offline_recording(folder) is None


def _of_server(run_id: str) -> Any:
    """Return the run at W&B's server."""
    folder = _local_folder(run_id)
    note = Note() if folder is None else Note.load(folder)
    entity, project = _place(get_wandb_context())
    entity, project = entity or note.entity, project or note.project
    path = "/".join(part for part in (entity if project else None, project, run_id) if part)
    with _server_errors(f"run {path!r}"):
        return import_wandb().Api().run(path)


def _place(*contexts: Any) -> tuple[str | None, str | None]:
    """Return entity and project of the first context that has them."""
    entities = (context.entity for context in contexts if context is not None)
    projects = (context.project for context in contexts if context is not None)
    return next(filter(None, entities), None), next(filter(None, projects), None)


def _write(path: str, name: str, data: Any) -> None:
    with open(os.path.join(path, name), "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2, default=str)


class _Failing:
    """Raise RuntimeError with a text for any exception of the block."""

    def __init__(self, text: Callable[[Exception], str]) -> None:
        self._text = text

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            raise RuntimeError(self._text(error)) from error


def _server_errors(wanted: str) -> _Failing:
    errors = import_wandb().errors

    def text(error: Exception) -> str:
        if isinstance(error, errors.AuthenticationError):  # before CommError, its base
            return f"Authentication failed when accessing wandb {wanted}. Check WANDB_API_KEY. Error: {error}"
        if isinstance(error, errors.CommError) or str(error).startswith("Could not find"):
            return (
                f"Failed to fetch wandb {wanted} from the server: it does not exist, or you may not read it. "
                f"Error: {error}"
            )
        return f"Unexpected error fetching wandb {wanted}: {error}"

    return _Failing(text)
