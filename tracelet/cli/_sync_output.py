"""What the commands that deliver have in common: their config, and the lines they print."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from tracelet.cli._console import cell
from tracelet.cli._json import standard_output_kept
from tracelet.cli._progress import bars
from tracelet.errors import ConfigurationError
from tracelet.settings import Settings
from tracelet.sync import OnProgress, Outcome, Synced


@contextlib.contextmanager
def progress_told(folder: Path, *, as_json: bool) -> Iterator[OnProgress]:
    """What `deliver` tells of a run, as bars; with `as_json` none, and standard output is kept for the document."""
    with bars(not as_json) as move, standard_output_kept(as_json):
        yield lambda backend, done, total: move(f"{folder.name} {backend}", done, total)


def report(out: Console, synced: Synced) -> None:
    """A line for each backend."""
    name = synced.folder.name
    if synced.skipped is not None:
        out.print(cell(f"{name}: skipped: {synced.skipped}"))
    elif not synced.outcomes:
        out.print(cell(f"{name}: nothing waits"))
    for one in synced.outcomes:
        out.print(cell(f"{name}: {one.backend}: {_told(one)}", "yellow" if one.reason else ""))


def _told(one: Outcome) -> str:
    parts = [f"{one.delivered} delivered ({one.new} new)"]
    parts += [f"{count} {word}" for count, word in ((one.rejected, "rejected"), (one.filtered, "filtered")) if count]
    if one.waiting:
        parts.append(f"{one.waiting} waiting")
    return ", ".join(parts) + (f": {one.reason.removeprefix(f'{one.backend}: ')}" if one.reason else "")


def names_of(options: list[str] | None) -> list[str]:
    """`--backend one --backend two,three`."""
    return [name.strip() for one in options or () for name in one.split(",") if name.strip()]


def configs(pairs: list[str], backends: list[str], told: Settings) -> dict[str, dict[str, Any]]:
    """`--config`, and the one backend's credential and server from the settings."""
    found: dict[str, dict[str, Any]] = {}
    if len(backends) == 1:
        shared = {"api_key": told.api_key, "backend_url": told.backend_url}
        found[backends[0]] = {key: value for key, value in shared.items() if value is not None}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        owner, dot, key = name.partition(".")
        if not equals or (not dot and len(backends) != 1):
            raise ConfigurationError(
                f"--config {pair!r}: say KEY=VALUE with one --backend, or BACKEND.KEY=VALUE with any number"
            )
        target, key = (owner, key) if dot else (backends[0], name)
        found.setdefault(target, {})[key] = value
    return found
