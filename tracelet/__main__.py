"""python -m tracelet, and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    if sys.argv[1:2] == ["run"]:  # a program is waiting, and the packages of the other commands would delay it
        from tracelet.launcher import command

        command.main(sys.argv[2:])
    from tracelet.cli import app

    app(prog_name="tracelet")


if __name__ == "__main__":
    main()
