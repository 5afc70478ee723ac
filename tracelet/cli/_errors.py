"""Errors on the command line."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from tracelet.cli._console import clean
from tracelet.errors import TraceletError
from tracelet.runs.query import QueryError


def print_error(error: TraceletError) -> str:
    """Print an error as one line on standard error, and return the text. The place in an expression has its lines."""
    if isinstance(error, QueryError):
        text = "\n".join(map(clean, str(error).splitlines()))
    else:
        text = clean(" ".join(str(error).split()))
    typer.echo(f"tracelet: {text}", err=True)
    return text


def _discard_output() -> None:
    """Send the rest of the output nowhere: the interpreter would fail to write it at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class OneLineErrors(TyperGroup):
    """Print a `TraceletError`, or that of a file, as one line on stderr, and exit with code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TraceletError as error:
            print_error(error)
            raise typer.Exit(1) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of the output has ended; typer exits without a word
                raise
            print_error(TraceletError(f"{error.filename or 'the output'}: {error.strerror or error}"))
            if error.filename is None:
                _discard_output()
            raise typer.Exit(1) from error
