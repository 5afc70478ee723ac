"""tracelet run"""

from __future__ import annotations

from typing import Annotated

import typer

from tracelet.launcher import command

WORDS_AS_THEY_ARE = {
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}
"""Context settings: the launcher knows its own options, and which words are the program's."""


def run(
    words: Annotated[list[str] | None, typer.Argument(metavar="[OPTIONS] [-m] PROGRAM [ARGUMENTS]")] = None,
) -> None:
    """Run a Python program with its TensorBoard calls carried, without changing a line of it."""
    command.main(words or [])
