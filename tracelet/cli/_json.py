"""What `--json` prints: one document on standard output, and nothing else there. docs/command-line.md has its keys."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Annotated, Any, TextIO

import typer

from tracelet.errors import ConfigurationError
from tracelet.runs import export as plain
from tracelet.runs.cleanup import disk_used
from tracelet.runs.report import RunSummary, Unreadable
from tracelet.sync import Synced

_document: ContextVar[TextIO | None] = ContextVar("document", default=None)


def _begin(ctx: typer.Context, wanted: bool) -> bool:
    """Keep standard output for the document: what backends print when they are imported, and when the interpreter
    ends, goes to standard error."""
    if not wanted or ctx.resilient_parsing:
        return wanted
    _document.set(sys.stdout)
    with contextlib.suppress(OSError):  # a standard output that is no file, as where the command is called by a test
        if sys.stdout.fileno() == 1:
            sys.stdout.flush()
            _document.set(os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors))
            os.dup2(2, 1)
    ctx.with_resource(contextlib.redirect_stdout(sys.stderr))
    return wanted


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.", callback=_begin)]

_UNKNOWN = ("name", "project", "group", "notes", "exit_code", "started", "seen", "records", "tags", "duration")


def emit(document: Mapping[str, Any], *, line: bool = False) -> None:
    """Print a document; `line`: as one line, of several that follow each other."""
    text = plain.text(document)
    told = " ".join(one.strip() for one in text.splitlines()) if line else text
    typer.echo(told, file=_document.get())


def require_yes(as_json: bool, answered: bool, command: str, how: str) -> None:
    """A question and its answer have no place beside a document."""
    if as_json and not answered:
        raise ConfigurationError(f"tracelet {command} --json asks nothing: say {how}")


@contextlib.contextmanager
def standard_output_kept(wanted: bool) -> Iterator[None]:
    """What vendors, and processes of theirs, print meanwhile goes to standard error."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def of_run(one: RunSummary | Unreadable) -> dict[str, Any]:
    """A run; of one that cannot be read, `reason` says why, and what nobody knows is null."""
    match one:
        case RunSummary(info=info):
            more = {"tags": info.tags, "duration": one.duration, "reason": None}
            return plain.of_summary(one) | more | {"disk": disk_used(one.folder)}
        case Unreadable(folder=folder, reason=reason):
            known = {"run_id": folder.name, "folder": folder, "status": "unreadable", "reason": reason}
            return dict.fromkeys(_UNKNOWN) | known | {"disk": disk_used(folder), "backends": {}}


def of_synced(synced: Synced) -> dict[str, Any]:
    """What a delivery of one run came to."""
    return {
        "run_id": synced.folder.name,
        "folder": synced.folder,
        "skipped": synced.skipped,
        "complete": synced.complete,
        "backends": {
            one.backend: {name: getattr(one, name) for name in one.__struct_fields__ if name != "backend"}
            for one in synced.outcomes
        },
    }
