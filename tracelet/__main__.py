"""Entry point of `python -m tracelet` and of the console script."""

from __future__ import annotations

import sys


def main() -> None:
    if sys.argv[1:2] == ["run"]:  # start the program without importing the other commands
        from tracelet.launcher import command

        command.main(sys.argv[2:])
    from tracelet.cli import app

    app(prog_name="tracelet")


if __name__ == "__main__":
    main()
