"""tracelet doctor"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from tracelet.cli._completion import backend_names
from tracelet.cli._console import cell, clean, console, size
from tracelet.cli._json import AsJson, emit
from tracelet.cli._progress import bars
from tracelet.cli._sync_output import names_of

if TYPE_CHECKING:
    from tracelet.doctor import BackendFacts, Diagnosis

_COLORS = {"ok": "green", "wrong": "red", "missing": "yellow", "not asked": "dim"}
_SIGNS = {"ok": "ok", "wrong": "failed", "missing": "-", "not asked": "-"}


def doctor(
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="Check this backend (default: those of the settings, or all). Repeatable.",
            autocompletion=backend_names,
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds until a backend's server must respond.")] = 5.0,
    places: Annotated[bool, typer.Option("--places", help="List the location of each kind of record.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check backends, writers, the run folder and the settings. Exit code 1: a selected backend, or a part that
    every run needs, does not work."""
    from tracelet.doctor import examine  # a slow import that no other command needs

    with bars(not as_json) as move:
        diagnosis = examine(names_of(backend), timeout=timeout, tell=lambda done, total: move("checking", done, total))
    problems = diagnosis.problems
    if as_json:
        emit({"ok": not problems, "problems": problems, **msgspec.to_builtins(diagnosis)})
    else:
        _print(console(), diagnosis, places)
    if problems:
        raise typer.Exit(1)


def _print(out: Console, diagnosis: Diagnosis, places: bool) -> None:
    out.print(cell(f"tracelet {diagnosis.tracelet}, Python {diagnosis.python}, {diagnosis.platform}"))
    _settings(out, diagnosis)
    _folder(out, diagnosis)
    out.print(cell("Writers", "bold"))
    for writer in diagnosis.writers:
        _line(out, writer.state, writer.name, writer.version, writer.detail)
    checksums = "compiled" if diagnosis.compiled_checksums else "in Python: pip install --force-reinstall google-crc32c"
    _line(out, "ok", "tensorboard", diagnosis.tensorboard, f"checksums of event files: {checksums}")
    out.print(cell("Backends", "bold"))
    for backend in diagnosis.backends:
        state = "wrong" if backend.asked and backend.state != "ok" else backend.state
        detail = f"{backend.detail} (requested)" if backend.asked else backend.detail or "not checked"
        _line(out, state, backend.name, backend.version, detail)
        if places:
            _places(out, backend)
    others = list(_others(diagnosis))
    if others:
        out.print(cell("Other tools that capture TensorBoard here: records may arrive twice", "yellow bold"))
    for text in others:
        out.print(cell(f"  {text}", "yellow"))


def _settings(out: Console, diagnosis: Diagnosis) -> None:
    settings = [setting for setting in diagnosis.settings if setting.origin != "default"]
    is_default = not settings and diagnosis.settings_trouble is None
    out.print(cell("Settings: all defaults" if is_default else "Settings", "bold"))
    width = max((len(setting.name) for setting in settings), default=0)
    for setting in settings:
        out.print(cell(f"  {setting.name:<{width}}  {_value(setting.value)}  ({setting.origin})"))
    if diagnosis.settings_trouble is not None:
        out.print(Text.assemble((f"  {_SIGNS['wrong']}  ", _COLORS["wrong"]), clean(diagnosis.settings_trouble)))


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _folder(out: Console, diagnosis: Diagnosis) -> None:
    folder = diagnosis.folder
    parts = [
        "exists" if folder.exists else "does not exist yet",
        folder.trouble or "writable",
    ]
    parts += [f"{size(folder.free)} free"] if folder.free is not None else []
    parts += [folder.file_system] if folder.file_system else []
    parts += ["a network file system: each commit waits for it"] if folder.network else []
    out.print(cell("Run folder", "bold"))
    _line(out, "ok" if folder.writable else "wrong", folder.path, None, ", ".join(parts))


def _line(out: Console, state: str, name: str, version: str | None, detail: str) -> None:
    title = " ".join(filter(None, (name, version)))
    out.print(Text.assemble((f"  {_SIGNS[state]:<6}  ", _COLORS[state]), f"{clean(title):<20}  ", clean(detail)))


def _places(out: Console, backend: BackendFacts) -> None:
    for kind, location in backend.places.items():
        out.print(cell(f"            {kind:<12}{location or 'accepted'}"))
    for kind in backend.filtered:
        out.print(cell(f"            {kind:<12}not supported: counted as filtered"))


def _others(diagnosis: Diagnosis) -> Iterator[str]:
    for backend in diagnosis.backends:
        if backend.own_capture:
            yield f"{backend.name}: {backend.own_capture}"
    patches = sorted({patch for writer in diagnosis.writers for patch in writer.others})
    yield from (f"{patch.where} is changed by {patch.by}" for patch in patches)
    yield from (f"{path} runs whenever Python starts" for path in diagnosis.at_every_start if patches)
