"""Shared by the commands that deliver: options, progress bars and result lines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from tracelet.cli._console import cell
from tracelet.cli._json import redirect_output
from tracelet.cli._progress import bars
from tracelet.delivery.past import OnProgress
from tracelet.errors import ConfigurationError
from tracelet.journal.status import BackendStatus
from tracelet.settings import Settings
from tracelet.sync import Synced


@contextlib.contextmanager
def progress_bars(folder: Path, *, as_json: bool) -> Iterator[OnProgress]:
    """Show the progress of `deliver`. With `as_json`, show none and reserve standard output for the document."""
    with bars(not as_json) as move, redirect_output(as_json):
        yield lambda backend, done, total: move(f"{folder.name} {backend}", done, total)


def report(out: Console, synced: Synced, run: str = "") -> None:
    """Print one line per backend, also for the other ranks of the run."""
    name = f"{run}{synced.folder.name}"
    if synced.skipped is not None:
        out.print(cell(f"{name}: skipped: {synced.skipped}"))
    elif not synced.backends:
        out.print(cell(f"{name}: up to date"))
    for backend in synced.backends:
        text = f"{name}: {backend.name}: {_format(backend, synced.new.get(backend.name, 0))}"
        out.print(cell(text, "yellow" if backend.reason or backend.pending_upload else ""))
        if backend.pending_upload:
            text = f"{name}: {backend.name}: the offline recording in {backend.pending_upload} is not uploaded"
            out.print(cell(text, "yellow"))
    for rank in synced.ranks:
        report(out, rank, f"{name} ")


def _format(backend: BackendStatus, new: int) -> str:
    parts = [f"{backend.delivered} {'recorded offline' if backend.pending_upload else 'delivered'} ({new} new)"]
    counts = ((backend.rejected, "rejected"), (backend.filtered, "filtered"), (backend.pending, "pending"))
    parts += [f"{count} {word}" for count, word in counts if count]
    return ", ".join(parts) + (f": {backend.short_reason}" if backend.reason else "")


def names_of(options: list[str] | None) -> list[str]:
    """Split `--backend one --backend two,three` into names."""
    return [name.strip() for option in options or () for name in option.split(",") if name.strip()]


def configs(pairs: list[str], backends: list[str], loaded: Settings) -> dict[str, dict[str, Any]]:
    """Return the config of each backend from `--config`.

    If there is one backend, add its credential and server from the settings.
    """
    config: dict[str, dict[str, Any]] = {}
    if len(backends) == 1:
        shared = {"api_key": loaded.api_key, "backend_url": loaded.backend_url}
        config[backends[0]] = {key: value for key, value in shared.items() if value is not None}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        owner, dot, key = name.partition(".")
        if not equals or (not dot and len(backends) != 1):
            raise ConfigurationError(
                f"--config must be BACKEND.KEY=VALUE, or KEY=VALUE with exactly one --backend, got {pair!r}"
            )
        target, key = (owner, key) if dot else (backends[0], name)
        config.setdefault(target, {})[key] = value
    return config
