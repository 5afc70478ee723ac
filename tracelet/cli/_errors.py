"""Errors on the command line."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from tracelet.cli._console import clean
from tracelet.errors import TraceletError


def print_error(error: TraceletError) -> str:
    """Print an error as one line on standard error, and return the text."""
    text = clean(" ".join(str(error).split()))
    typer.echo(f"tracelet: {text}", err=True)
    return text


class OneLineErrors(TyperGroup):
    """Print a `TraceletError` as one line on stderr, without a traceback, and exit with code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TraceletError as error:
            print_error(error)
            raise typer.Exit(1) from error
