"""How an error is told on the command line."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from tracelet.cli._console import clean
from tracelet.errors import TraceletError


def tell_error(error: TraceletError) -> str:
    """Say an error in one line on standard error; gives the line."""
    text = clean(" ".join(str(error).split()))
    typer.echo(f"tracelet: {text}", err=True)
    return text


class OneLineErrors(TyperGroup):
    """What the user can put right is one line on stderr and exit code 1, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TraceletError as error:
            tell_error(error)
            raise typer.Exit(1) from error
