"""The command line: parse arguments, call the library, print results. No other module prints."""

from __future__ import annotations

from typing import Annotated

import typer

from tracelet.cli._errors import OneLineErrors
from tracelet.cli.compare import compare
from tracelet.cli.doctor import doctor
from tracelet.cli.export import export
from tracelet.cli.gc import gc
from tracelet.cli.import_ import import_
from tracelet.cli.rm import rm
from tracelet.cli.run import PASS_THROUGH, run
from tracelet.cli.runs import runs
from tracelet.cli.show import show
from tracelet.cli.sync import sync
from tracelet.cli.tag import tag
from tracelet.cli.view import view
from tracelet.version import __version__

__all__ = ["app"]

app = typer.Typer(
    name="tracelet",
    cls=OneLineErrors,
    no_args_is_help=True,
    # A traceback with local variables may show credentials.
    pretty_exceptions_enable=False,
)
app.command(context_settings=PASS_THROUGH)(run)
app.command("import")(import_)
app.command()(runs)
app.command()(show)
app.command()(view)
app.command()(compare)
app.command()(export)
app.command()(tag)
app.command()(sync)
app.command()(rm)
app.command()(gc)
app.command()(doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tracelet {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Show, compare, export, deliver, import and remove the runs on this machine."""
