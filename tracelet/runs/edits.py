"""Edit the name, the notes and the tags of a run after its start, in a small file beside its journal.

The journal belongs to the process that writes it, and keeps what the program set. Backends do not get the edits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tracelet.backends.notes import read_note, write_note
from tracelet.errors import JournalError
from tracelet.records import RunInfo

FILE_NAME = "edits.json"


class Edits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The edits of a run."""

    name: str | None = None
    """None if it was not edited, as in `notes`."""
    notes: str | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def tags(self, logged: Iterable[str]) -> tuple[str, ...]:
        """Return the tags of the run, given those that its program set."""
        return tuple(dict.fromkeys([*(tag for tag in logged if tag not in self.removed), *self.added]))

    def apply(self, info: RunInfo) -> RunInfo:
        """Return the description of the run with the edits."""
        return msgspec.structs.replace(
            info,
            name=info.name if self.name is None else self.name,
            notes=info.notes if self.notes is None else self.notes,
            tags=self.tags(info.tags),
        )


_NONE = Edits()


def read(folder: Path) -> Edits:
    """Return the edits of the run in `folder`. A damaged file has none.

    Raises:
        JournalError: the file exists and cannot be read.
    """
    try:
        return read_note(folder / FILE_NAME, Edits) or _NONE
    except OSError as error:
        raise JournalError(f"cannot read {folder / FILE_NAME}: {error.strerror or error}") from error


def edit(
    folder: Path,
    *,
    add_tags: Iterable[str] = (),
    remove_tags: Iterable[str] = (),
    name: str | None = None,
    notes: str | None = None,
) -> None:
    """Edit the run in `folder`, active or not. An empty `name` or `notes` restores that of the program.

    Raises:
        JournalError: the folder cannot be written.
    """
    edits = read(folder)
    removed = tuple(dict.fromkeys(remove_tags))
    added = tuple(tag for tag in dict.fromkeys([*edits.added, *add_tags]) if tag not in removed)
    edits = Edits(
        name=edits.name if name is None else name or None,
        notes=edits.notes if notes is None else notes or None,
        added=added,
        removed=tuple(tag for tag in dict.fromkeys([*edits.removed, *removed]) if tag not in added),
    )
    try:
        write_note(folder / FILE_NAME, json.dumps(msgspec.to_builtins(edits), indent=2).encode())
    except OSError as error:
        raise JournalError(f"cannot write {folder / FILE_NAME}: {error.strerror or error}") from error
