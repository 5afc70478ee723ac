"""`--json`: print one document on standard output and nothing else. docs/command-line.md lists its keys."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Annotated, Any, TextIO

import typer

from tracelet.errors import ConfigurationError
from tracelet.runs import export
from tracelet.runs.cleanup import disk_used
from tracelet.runs.summary import RunSummary, Unreadable
from tracelet.sync import Synced

_document: ContextVar[TextIO | None] = ContextVar("document", default=None)


def _begin(ctx: typer.Context, wanted: bool) -> bool:
    """Reserve standard output for the document, until the interpreter exits.

    Output of backends goes to standard error.
    """
    if not wanted or ctx.resilient_parsing:
        return wanted
    _document.set(sys.stdout)
    with contextlib.suppress(OSError):  # stdout is not a file if a test calls the command
        if sys.stdout.fileno() == 1:
            sys.stdout.flush()
            _document.set(os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors))
            os.dup2(2, 1)
    ctx.with_resource(contextlib.redirect_stdout(sys.stderr))
    return wanted


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.", callback=_begin)]

_KEYS_OF_READABLE = (
    *("name", "project", "group", "notes", "exit_code", "started", "seen", "records", "journal_removed"),
    *("tags", "duration"),
)


def emit(document: Mapping[str, Any], *, line: bool = False) -> None:
    """Print a document. If `line` is true, print it as one line of a JSON Lines stream."""
    text = export.text(document)
    if line:
        text = " ".join(part.strip() for part in text.splitlines())
    typer.echo(text, file=_document.get())


def require_yes(as_json: bool, answered: bool, command: str, options: str) -> None:
    """Raise ConfigurationError if `--json` would need a question, since it cannot ask one."""
    if as_json and not answered:
        raise ConfigurationError(f"tracelet {command} --json cannot ask for confirmation. Add {options}")


@contextlib.contextmanager
def redirect_output(wanted: bool) -> Iterator[None]:
    """Redirect the standard output of vendors and their processes to standard error."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    saved_stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved_stdout, 1)
        os.close(saved_stdout)


def of_run(run: RunSummary | Unreadable) -> dict[str, Any]:
    """Convert a run. If it is unreadable, `reason` has the error and unknown values are null."""
    match run:
        case RunSummary(info=info):
            more = {"tags": info.tags, "duration": run.duration, "reason": None}
            return export.of_summary(run) | more | {"disk": disk_used(run.folder)}
        case Unreadable(folder=folder, reason=reason):
            known = {"run_id": folder.name, "folder": folder, "status": "unreadable", "reason": reason}
            return dict.fromkeys(_KEYS_OF_READABLE) | known | {"disk": disk_used(folder), "backends": {}}


def of_synced(synced: Synced) -> dict[str, Any]:
    """Convert the result of syncing one run."""
    return {
        "run_id": synced.folder.name,
        "folder": synced.folder,
        "skipped": synced.skipped,
        "complete": synced.complete,
        "backends": {
            name: {**status, "new": synced.new.get(name, 0)}
            for name, status in export.of_backends(synced.backends).items()
        },
        "ranks": [of_synced(rank) for rank in synced.ranks],
    }
