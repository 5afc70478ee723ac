"""Whether the library's own methods, and nobody else's, lie between a public call and its event."""

from __future__ import annotations

from types import ModuleType
from typing import Any

_SILENT = {"disabled": True}


class Unmodified:
    """What is as the library wrote it: writers' `_get_file_writer`, file writers' `add_summary` and `add_event`.

    The last is wrapped by us. Where all of it is, add_scalar writes its one event and no other.
    """

    def __init__(self) -> None:
        self.getters: set[Any] = set()
        self.senders: set[Any] = set()

    def meet(self, writer: Any, file_writer: Any) -> None:
        self.getters.add(writer._get_file_writer)
        self.senders |= {file_writer.add_summary, file_writer.add_event}

    def holds_for(self, writer: Any) -> bool:
        """Also that there is no other way out than the event."""
        file_writer = getattr(writer, "file_writer", None)
        sender = file_writer.__class__
        return (
            getattr(writer.__class__, "_get_file_writer", None) in self.getters
            and getattr(sender, "add_event", None) in self.senders
            and getattr(sender, "add_summary", None) in self.senders
            # tensorboardX's: values for a block that bears them, and what goes to comet
            and not getattr(file_writer, "_default_metadata", None)
            and getattr(writer, "_comet_config", _SILENT).get("disabled") is True
        )


def is_of(module: ModuleType, *methods: Any) -> bool:
    """Whether the functions were written in the module's file; a wrapper keeps a name and a module, but not this."""
    codes = (getattr(method, "__code__", None) for method in methods)
    return all(getattr(code, "co_filename", None) == module.__file__ for code in codes)
