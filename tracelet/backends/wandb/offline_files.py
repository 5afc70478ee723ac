"""The note in the run's folder: which wandb run this is, and where its recordings lie until the server has them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

NAME = "wandb.json"
# Longer than its service's interval between two writes.
_QUIET, _QUIET_MOST = 1.0, 4.0

active_files: set[str] = set()
"""Files that a run of this process writes or uploads still, also one whose end was given up: a second upload of one
would double its rows."""


class Recording(msgspec.Struct, kw_only=True):
    """One `.wandb` file of the run: from a `wandb.init` to its end."""

    file: str
    online: bool = False
    start: int | None = None
    """Rows of the run that the server had before the first of this recording; None: not begun to upload."""
    held: int = 0
    """The last sequence number that is known to stand in the file."""
    at: int = 0
    """How far into the file that reaches."""
    done: bool = False
    """The server has it all."""

    @property
    def settled(self) -> bool:
        # The mark that `wandb sync` leaves, run by the user.
        return self.done or os.path.exists(f"{self.file}.synced")

    @property
    def waits(self) -> bool:
        return not self.settled and os.path.exists(self.file)


class Note(msgspec.Struct, kw_only=True):
    """`wandb.json`."""

    id: str = ""
    project: str | None = None
    entity: str | None = None
    tags: list[str] = []
    """What the run was given beside the tags it began with: the next recording has to say them again."""
    recordings: list[Recording] = []

    @classmethod
    def load(cls, folder: Path) -> Note:
        """What earlier processes noted; an unreadable note is none."""
        try:
            return msgspec.json.decode((folder / NAME).read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError):
            return cls()

    def save(self, folder: Path) -> None:
        """Replace the file in one step."""
        if not folder.is_dir():
            return
        beside = folder / f".{NAME}.{os.getpid()}"
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(self)))
        beside.replace(folder / NAME)

    def waiting(self) -> list[Recording]:
        """Recordings that the server lacks, oldest first."""
        return [one for one in self.recordings if one.waits]

    def wait_until_quiet(self) -> None:
        """wandb's service may outlive a killed program by a moment, and still write what it was given."""
        end = time.monotonic() + _QUIET_MOST
        for file in (one.file for one in self.waiting() if one.file not in active_files):
            while time.time() - os.stat(file).st_mtime < _QUIET and time.monotonic() < end:
                time.sleep(_QUIET / 20)

    def held(self) -> int:
        """The last sequence number that stands in a recording; nothing after one that was lost counts."""
        held = 0
        for one in self.recordings:
            if not one.settled and not one.waits and one.held > held:
                break
            held = max(held, one.held)
        return held

    def delivered(self) -> int:
        """The last sequence number that the server has."""
        held = 0
        for one in self.recordings:
            if not one.settled and (one.waits or one.held > held):
                break
            held = max(held, one.held)
        return held
