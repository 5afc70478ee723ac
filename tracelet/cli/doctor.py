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

_COLOURS = {"ok": "green", "wrong": "red", "missing": "yellow", "not asked": "dim"}
_SIGNS = {"ok": "ok", "wrong": "no", "missing": "-", "not asked": "-"}


def doctor(
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="Try this backend (default: those of the settings, or every one). Repeatable.",
            autocompletion=backend_names,
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that a backend's server may take to answer.")] = 5.0,
    places: Annotated[bool, typer.Option("--places", help="Say where each kind of record lands.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at what tracelet needs here: backends, writers, the run folder, the settings. Exit code 1: what was asked
    for, or what every run needs, would not work."""
    from tracelet.doctor import examine  # here: no other command needs what it imports

    with bars(not as_json) as move:
        found = examine(names_of(backend), timeout=timeout, tell=lambda done, total: move("looking", done, total))
    problems = found.problems
    if as_json:
        emit({"ok": not problems, "problems": problems, **msgspec.to_builtins(found)})
    else:
        _tell(console(), found, places)
    if problems:
        raise typer.Exit(1)


def _tell(out: Console, found: Diagnosis, places: bool) -> None:
    out.print(cell(f"tracelet {found.tracelet}, Python {found.python}, {found.platform}"))
    _settings(out, found)
    _folder(out, found)
    out.print(cell("Writers", "bold"))
    for writer in found.writers:
        _line(out, writer.state, writer.name, writer.version, writer.detail)
    checksums = "compiled" if found.compiled_checksums else "in Python: pip install --force-reinstall google-crc32c"
    _line(out, "ok", "tensorboard", found.tensorboard, f"checksums of event files: {checksums}")
    out.print(cell("Backends", "bold"))
    for backend in found.backends:
        state = "wrong" if backend.asked and backend.state != "ok" else backend.state
        detail = f"{backend.detail} (asked for)" if backend.asked else backend.detail or backend.state
        _line(out, state, backend.name, backend.version, detail)
        if places:
            _places(out, backend)
    others = list(_others(found))
    if others:
        out.print(cell("Others that listen to TensorBoard here: a record may arrive twice", "yellow bold"))
    for words in others:
        out.print(cell(f"  {words}", "yellow"))


def _settings(out: Console, found: Diagnosis) -> None:
    said = [one for one in found.settings if one.origin != "default"]
    plain = not said and found.settings_trouble is None
    out.print(cell("Settings: all as they are by default" if plain else "Settings", "bold"))
    width = max((len(one.name) for one in said), default=0)
    for one in said:
        out.print(cell(f"  {one.name:<{width}}  {_value(one.value)}  ({one.origin})"))
    if found.settings_trouble is not None:
        out.print(Text.assemble((f"  {_SIGNS['wrong']}  ", _COLOURS["wrong"]), clean(found.settings_trouble)))


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _folder(out: Console, found: Diagnosis) -> None:
    folder = found.folder
    words = [
        "there" if folder.exists else "not there yet",
        folder.trouble or "can be written",
    ]
    words += [f"{size(folder.free)} free"] if folder.free is not None else []
    words += [folder.file_system] if folder.file_system else []
    words += ["a network file system: each commit waits for it"] if folder.network else []
    out.print(cell("Run folder", "bold"))
    _line(out, "ok" if folder.writable else "wrong", folder.path, None, ", ".join(words))


def _line(out: Console, state: str, name: str, version: str | None, detail: str) -> None:
    words = " ".join(filter(None, (name, version)))
    out.print(Text.assemble((f"  {_SIGNS[state]:<2}  ", _COLOURS[state]), f"{clean(words):<20}  ", clean(detail)))


def _places(out: Console, backend: BackendFacts) -> None:
    for kind, place in backend.places.items():
        out.print(cell(f"        {kind:<12}{place or 'taken'}"))
    for kind in backend.filtered:
        out.print(cell(f"        {kind:<12}no place: counted as filtered"))


def _others(found: Diagnosis) -> Iterator[str]:
    for backend in found.backends:
        if backend.own_capture:
            yield f"{backend.name}: {backend.own_capture}"
    patches = sorted({one for writer in found.writers for one in writer.others})
    yield from (f"{one.where} is changed by {one.by}" for one in patches)
    yield from (f"{path} runs at every start of Python" for path in found.at_every_start if patches)
