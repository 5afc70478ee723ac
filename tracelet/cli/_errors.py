"""How an error is told on the command line."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from tracelet.cli._text import clean
from tracelet.errors import TraceletError


class OneLineErrors(TyperGroup):
    """What the user can put right is one line on stderr and exit code 1, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TraceletError as error:
            typer.echo(f"tracelet: {clean(' '.join(str(error).split()))}", err=True)
            raise typer.Exit(1) from error
