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
from tracelet.errors import ConfigurationError
from tracelet.settings import Settings
from tracelet.sync import OnProgress, Outcome, Synced


@contextlib.contextmanager
def progress_bars(folder: Path, *, as_json: bool) -> Iterator[OnProgress]:
    """Show the progress of `deliver`. With `as_json`, show none and reserve standard output for the document."""
    with bars(not as_json) as move, redirect_output(as_json):
        yield lambda backend, done, total: move(f"{folder.name} {backend}", done, total)


def report(out: Console, synced: Synced) -> None:
    """Print one line per backend."""
    name = synced.folder.name
    if synced.skipped is not None:
        out.print(cell(f"{name}: skipped: {synced.skipped}"))
    elif not synced.outcomes:
        out.print(cell(f"{name}: up to date"))
    for outcome in synced.outcomes:
        offline = outcome.backend in synced.offline
        text = f"{name}: {outcome.backend}: {_format(outcome, offline=offline)}"
        out.print(cell(text, "yellow" if outcome.reason or offline else ""))
    for backend, path in synced.offline.items():
        out.print(cell(f"{name}: {backend}: the offline recording in {path} is not uploaded", "yellow"))


def _format(outcome: Outcome, *, offline: bool) -> str:
    parts = [f"{outcome.delivered} {'recorded offline' if offline else 'delivered'} ({outcome.new} new)"]
    counts = ((outcome.rejected, "rejected"), (outcome.filtered, "filtered"), (outcome.waiting, "pending"))
    parts += [f"{count} {state}" for count, state in counts if count]
    return ", ".join(parts) + (f": {outcome.reason.removeprefix(f'{outcome.backend}: ')}" if outcome.reason else "")


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
