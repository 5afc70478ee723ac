"""wandb's messages to the user, as log messages of tracelet."""

from __future__ import annotations

from typing import Any

from tracelet.guard import logger

_seen: set[str] = set()


def termlog(string: str = "", newline: bool = True, repeat: bool = True, prefix: bool = True) -> None:
    """Log information; with `repeat=False`, once."""
    _log(logger.info, string, repeat)


def termwarn(string: str, newline: bool = True, repeat: bool = True) -> None:
    """Log a warning."""
    _log(logger.warning, string, repeat)


def termerror(string: str, newline: bool = True, repeat: bool = True) -> None:
    """Log an error."""
    _log(logger.warning, string, repeat)


def termsetup(settings: Any = None, logger: Any = None) -> None:
    """Do nothing: logging is set up by the program."""


def _log(log: Any, text: str, repeat: bool) -> None:
    if repeat or text not in _seen:
        _seen.add(text)
        log("wandb: %s", text)
