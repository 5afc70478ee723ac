"""Append-only files of one folder, and a small file that says how far each of them may be believed.

A batch is first appended, then the state file is replaced in one step. What a killed process, or a full disk, left
behind the last state is cut off before anything is appended again: every batch is in the files once or not at all.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import msgspec

_STATE = ".state.json"
_TAIL = 1 << 20


class _State(msgspec.Struct, kw_only=True):
    """`last`: the sequence number up to which the files hold everything; `offsets`: the bytes of each by then.
    `safe` and `safe_offsets`: the same when they were last put on the disk itself.
    """

    owner: str
    last: int = 0
    offsets: dict[str, int] = {}
    safe: int = 0
    safe_offsets: dict[str, int] = {}


class CommitLog:
    """`files` maps the name of each append-only file to its first line ("" for none).

    Text goes into `pending[name]` and reaches the files at `commit`. Every method may raise `OSError`; after one did,
    `restore` must come before the next append.
    """

    def __init__(self, folder: Path, owner: str, files: Mapping[str, str]) -> None:
        self._folder = folder
        self._headers = files
        self._open: dict[str, io.FileIO] = {}
        self._state = _State(owner=owner)
        self.pending: dict[str, io.StringIO] = {name: io.StringIO(newline="") for name in files}
        self.restore()

    @property
    def last(self) -> int:
        return self._state.last

    def restore(self) -> None:
        """Forget what is pending, and cut every file back to where the state says it ends."""
        state = _read(self._folder)
        if state is None:  # a new folder, or a state lost in a power failure: then what is there is believed
            state = _State(owner=self._state.owner, offsets=dict.fromkeys(self._headers, 1 << 62))
        elif any(self._size(name) < offset for name, offset in state.offsets.items()):
            # A power failure took the end of a file: what was not on the disk by then is delivered again.
            state.last, state.offsets = state.safe, dict(state.safe_offsets)
        self.close()
        for name, buffer in self.pending.items():
            buffer.seek(0)
            buffer.truncate()
            state.offsets[name] = self._cut(name, state.offsets.get(name, 0))
        self._state = state

    def commit(self, last: int) -> None:
        """Append what is pending; from here on the files hold everything up to sequence number `last`."""
        for name, buffer in self.pending.items():
            if buffer.tell():
                # A lone surrogate has no place in UTF-8; inside JSON the escape is even read back as what it was.
                self._append(name, buffer.getvalue().encode("utf-8", "backslashreplace"))
                buffer.seek(0)
                buffer.truncate()
        self._state.last = last
        replace(self._folder / _STATE, msgspec.json.encode(self._state))

    def sync(self) -> None:
        """Ask the operating system to put the files on the disk itself."""
        for file in self._open.values():
            os.fsync(file.fileno())
        self._state.safe, self._state.safe_offsets = self._state.last, dict(self._state.offsets)
        replace(self._folder / _STATE, msgspec.json.encode(self._state))
        with open(self._folder / _STATE, "rb") as state:
            os.fsync(state.fileno())

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def _size(self, name: str) -> int:
        try:
            return (self._folder / name).stat().st_size
        except FileNotFoundError:
            return 0

    def _cut(self, name: str, offset: int) -> int:
        with contextlib.suppress(FileNotFoundError), open(self._folder / name, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if size < offset:  # a power failure took the end, perhaps in the middle of a line
                start = max(0, size - _TAIL)
                file.seek(start)
                offset = start + file.read().rfind(b"\n") + 1
            file.truncate(offset)
            return offset
        return 0

    def _append(self, name: str, data: bytes) -> None:
        file = self._open.get(name)
        if file is None:
            file = self._open[name] = io.FileIO(self._folder / name, "a")
        if self._state.offsets[name] == 0:
            data = self._headers[name].encode() + data
        rest = memoryview(data)
        while rest:  # an almost full disk takes a part, and refuses the next
            rest = rest[file.write(rest) :]
        self._state.offsets[name] += len(data)


def claim(folder: Path, owner: str, run_id: str, files: Mapping[str, str]) -> Path:
    """`folder`, or where that holds another run or a person's own files, the folder `run_id` inside it."""
    for candidate in _candidates(folder, run_id):
        candidate.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = _read(candidate)
        if state is not None and state.owner == owner:
            return candidate
        if any((candidate / name).exists() for name in (_STATE, *files)):
            continue
        with contextlib.suppress(FileExistsError):  # two ranks may come at the same moment: one of them creates it
            _create(candidate / _STATE, msgspec.json.encode(_State(owner=owner)))
            return candidate
    raise AssertionError("unreachable: the candidates do not end")


def replace(path: Path, data: bytes) -> None:
    """Give `path` new content in one step: a reader, or a kill, sees the old or the new."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _create(path: Path, data: bytes) -> None:
    """Make a file that is not there, whole or not at all: half of one, on a full disk, would be nobody's for ever.

    Raises:
        FileExistsError: it is there.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        draft.write_bytes(data)
        try:
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            with open(path, "xb", buffering=0) as file:
                file.write(data)
    finally:
        draft.unlink(missing_ok=True)


def _candidates(folder: Path, run_id: str) -> Iterator[Path]:
    yield folder
    yield folder / run_id
    for number in count(2):
        yield folder / f"{run_id}~{number}"


def _read(folder: Path) -> _State | None:
    try:
        return msgspec.json.decode((folder / _STATE).read_bytes(), type=_State)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
