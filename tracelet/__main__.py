"""Entry point of `python -m tracelet` and of the console script."""

from __future__ import annotations

import os
import sys


def main() -> None:
    if sys.argv[1:2] == ["run"]:  # start the program without importing the other commands
        from tracelet.launcher import command

        command.main(sys.argv[2:])
    from tracelet.cli import app

    if sys.stdout is None:  # closed, as in `tracelet gc >&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    app(prog_name="tracelet")


if __name__ == "__main__":
    main()
