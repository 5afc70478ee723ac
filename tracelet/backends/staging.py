"""Give a payload the file name that a vendor requires."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tracelet.errors import RecordRejected
from tracelet.records import Payload


def stage(payload: Payload, path: Path) -> None:
    """Create `path` with the payload's bytes: a link to its file if possible, which costs no space, else a copy.

    Raises:
        RecordRejected: its file is missing.
    """
    if isinstance(payload, bytes):
        path.write_bytes(payload)
        return
    try:
        os.link(payload.path, path)
    except FileNotFoundError as error:
        raise RecordRejected(f"the file {payload.path!r} is missing") from error
    except OSError:  # another file system, or one without links
        shutil.copyfile(payload.path, path)
