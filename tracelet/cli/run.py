"""tracelet run"""

from __future__ import annotations

from typing import Annotated

import typer

from tracelet.launcher import command

PASS_THROUGH = {
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}
"""Context settings that leave all arguments to the launcher, which separates its options from the program's."""


def run(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[OPTIONS] [-m] PROGRAM [ARGUMENTS]")] = None,
) -> None:
    """Run a Python program and log its TensorBoard calls, without changing the program."""
    command.main(arguments or [])
