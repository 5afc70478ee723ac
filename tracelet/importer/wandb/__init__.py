"""Read the runs in `.wandb` files: those of offline runs, and the local copies of online runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tracelet.errors import ConfigurationError
from tracelet.importer.past_run import PastRun
from tracelet.importer.wandb.log_file import records
from tracelet.importer.wandb.run import RunReader

if TYPE_CHECKING:
    from tracelet.importer.stores import Selection

_PATTERNS = ("*.wandb", "*run-*/run-*.wandb", "wandb/*run-*/run-*.wandb")


def runs(source: str, selection: Selection) -> Iterator[PastRun]:
    """Yield the runs in a `.wandb` file, the folder of one run, a folder `wandb`, or one that contains it.

    Several files of one run, as of a resumed one, are read in the order of their starts.

    Raises:
        ConfigurationError: there is no `.wandb` file.
    """
    files = _files(Path(source))
    if not files:
        raise ConfigurationError(
            f"no run of wandb under {source}: no file run-*.wandb there or in offline-run-* folders"
        )
    by_run: dict[str, list[tuple[float, Path]]] = {}
    found: dict[str, PastRun] = {}
    for path in files:
        run = _described(path)
        by_run.setdefault(run.id, []).append((run.started, path))
        earlier = found.get(run.id)
        if earlier is None or run.started < earlier.started:
            found[run.id] = run
    for run in sorted(found.values(), key=lambda run: run.started):
        reader = RunReader(run, [path for _, path in sorted(by_run[run.id])])
        run.records = reader.records
        yield run


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    # `latest-run` is a link to one of the others.
    paths = {path for pattern in _PATTERNS for path in source.glob(pattern) if not path.parent.is_symlink()}
    return sorted(path for path in paths if path.is_file())


def _described(path: Path) -> PastRun:
    """Return the run as the first records of a file describe it. An error is reported when it is read as a whole."""
    run = PastRun("wandb", path.stem.removeprefix("run-"), str(path.parent))
    with contextlib.suppress(OSError):
        run.started = path.stat().st_mtime
        for record in records(path, lambda reason: None):
            if record.HasField("run"):
                own = record.run
                run.id, run.project, run.name = own.run_id or run.id, own.project or None, own.display_name or None
                run.started = own.start_time.ToNanoseconds() / 1e9
                run.tags, run.notes, run.group = tuple(own.tags), own.notes or None, own.run_group or None
                break
    return run
