"""Check that only the library's own methods run between a public call and its event."""

from __future__ import annotations

from types import ModuleType
from typing import Any

_SILENT = {"disabled": True}


class Unmodified:
    """The library's own methods: `_get_file_writer` of writers, `add_summary` and `add_event` of file writers.

    `add_event` is our wrapper. If a writer uses only these, add_scalar writes exactly one event.
    """

    def __init__(self) -> None:
        self.getters: set[Any] = set()
        self.senders: set[Any] = set()

    def add(self, writer: Any, file_writer: Any) -> None:
        self.getters.add(writer._get_file_writer)
        self.senders |= {file_writer.add_summary, file_writer.add_event}

    def applies_to(self, writer: Any) -> bool:
        """Check that a writer uses only these methods, and that its only output is the event."""
        file_writer = getattr(writer, "file_writer", None)
        sender = file_writer.__class__
        return (
            getattr(writer.__class__, "_get_file_writer", None) in self.getters
            and getattr(sender, "add_event", None) in self.senders
            and getattr(sender, "add_summary", None) in self.senders
            # tensorboardX: metadata of a `with` block, and output to comet
            and not getattr(file_writer, "_default_metadata", None)
            and getattr(writer, "_comet_config", _SILENT).get("disabled") is True
        )


def is_of(module: ModuleType, *methods: Any) -> bool:
    """Check that the functions' code is in the module's file; a wrapper copies only the name and the module."""
    codes = (getattr(method, "__code__", None) for method in methods)
    return all(getattr(code, "co_filename", None) == module.__file__ for code in codes)
