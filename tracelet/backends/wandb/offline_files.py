"""`wandb.json` in the run's folder: the id of the wandb run, and its recordings until the server has them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tracelet.backends.notes import read_note, write_note
from tracelet.backends.wandb.transaction_log import TransactionLog

NAME = "wandb.json"
# Longer than the interval between two writes of wandb's service.
_QUIET, _QUIET_TIMEOUT = 1.0, 4.0

active_files: set[str] = set()
"""Files that a run of this process still writes or uploads, even if its close was abandoned. A second upload would
duplicate the rows."""


class Recording(msgspec.Struct, kw_only=True):
    """One `.wandb` file of the run: from `wandb.init` to its end."""

    file: str
    online: bool = False
    start: int | None = None
    """Rows of the run at the server before this recording; None if no upload has started."""
    held: int = 0
    """The last sequence number that is known to be in the file."""
    at: int = 0
    """The offset in the file that contains the records up to `held`."""
    done: bool = False
    """True if the server has all of it."""

    @property
    def uploaded(self) -> bool:
        # If the user runs `wandb sync`, it creates this marker.
        return self.done or os.path.exists(f"{self.file}.synced")

    @property
    def pending(self) -> bool:
        return not self.uploaded and os.path.exists(self.file)


class Note(msgspec.Struct, kw_only=True):
    """The content of `wandb.json`."""

    id: str = ""
    project: str | None = None
    entity: str | None = None
    tags: list[str] = []
    """Tags added after the start of the run. The next recording must include them."""
    recordings: list[Recording] = []

    @classmethod
    def load(cls, folder: Path) -> Note:
        """Read the note of earlier processes; empty if it is missing, unreadable or damaged."""
        try:
            return read_note(folder / NAME, cls) or cls()
        except OSError:
            return cls()

    def save(self, folder: Path) -> None:
        """Replace the file in one step, if the folder exists."""
        if folder.is_dir():
            write_note(folder / NAME, msgspec.json.format(msgspec.json.encode(self)))

    def pending(self) -> list[Recording]:
        """Return recordings that the server lacks, oldest first."""
        return [recording for recording in self.recordings if recording.pending]

    def wait_until_quiet(self) -> None:
        """Wait until pending recordings have not changed for a second.

        wandb's service can outlive a killed program for a moment, and still writes then.
        """
        end = time.monotonic() + _QUIET_TIMEOUT
        for file in (recording.file for recording in self.pending() if recording.file not in active_files):
            while time.time() - os.stat(file).st_mtime < _QUIET and time.monotonic() < end:
                time.sleep(_QUIET / 20)

    def recorded_seq(self) -> int:
        """Return the last sequence number in the recordings. If one is lost, later ones do not count."""
        last = 0
        for recording in self.recordings:
            if not recording.uploaded and not recording.pending and recording.held > last:
                break
            last = max(last, recording.held)
        return last

    def delivered_seq(self) -> int:
        """Return the last sequence number that the server has."""
        last = 0
        for recording in self.recordings:
            if not recording.uploaded and (recording.pending or recording.held > last):
                break
            last = max(last, recording.held)
        return last

    def unconfirmed_records(self) -> Iterator[Any]:
        """Yield the records of the files after the last known sequence number. They must not be sent again."""
        last = self.recorded_seq()
        for recording in self.recordings:
            if recording.held >= last and os.path.exists(recording.file):
                yield from TransactionLog(Path(recording.file), recording.at).records()
