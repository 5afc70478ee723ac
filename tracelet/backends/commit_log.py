"""Append batches to the files of one folder, each batch exactly once.

A small state file records the valid length of each file. A batch is appended first, then the state file is replaced in
one step. Bytes beyond that length, from a killed process or a full disk, are truncated before the next append.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path

import msgspec

from tracelet.backends.notes import read_note
from tracelet.filesystem import create, make_private, no_follow

_STATE = ".state.json"
_TAIL = 1 << 20


class _State(msgspec.Struct, kw_only=True):
    """The files hold all records up to sequence number `last`; `offsets` are their lengths in bytes.

    `safe` and `safe_offsets` are the same values at the last `sync`.
    """

    owner: str
    last: int = 0
    offsets: dict[str, int] = {}
    safe: int = 0
    safe_offsets: dict[str, int] = {}


class CommitLog:
    """`append` to any files, then `commit`. Every method may raise `OSError`; then `restore` before the next append.

    `kept` are text files: if the state was lost, they keep their whole lines. Others are written again.
    """

    def __init__(self, folder: Path, owner: str, kept: Iterable[str] = ()) -> None:
        self._folder, self._owner, self._kept = folder, owner, tuple(kept)
        self._open: dict[str, io.FileIO] = {}
        self._place = _open_folder(folder)
        self._state = _State(owner=owner)
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            is_new = _read(folder) is None and not any(map(self._size, self._kept))
            self.restore()
            if is_new:  # otherwise a kill in the first batch would leave lines that nobody removes
                self.commit(0)
            stack.pop_all()

    @property
    def last(self) -> int:
        """The sequence number up to which the files hold all records."""
        return self._state.last

    @property
    def is_in_place(self) -> bool:
        """False if the folder was deleted or replaced: the open files are no longer in it."""
        try:
            # An open folder keeps its number: no new one can be taken for it.
            return self._place is None or os.path.samestat(os.stat(self._folder), os.fstat(self._place))
        except OSError:
            return False

    @property
    def damaged(self) -> str | None:
        """Return the name of a file that was deleted, replaced or shortened, or None."""
        return next((name for name, offset in self._state.offsets.items() if offset and self._is_damaged(name)), None)

    def _is_damaged(self, name: str) -> bool:
        try:
            status = os.stat(self._folder / name)
        except OSError:
            return True
        file = self._open.get(name)
        replaced = file is not None and not os.path.samestat(status, os.fstat(file.fileno()))
        return replaced or status.st_size < self._state.offsets[name]

    def restore(self) -> None:
        """Truncate each file to the length in the state."""
        state = _read(self._folder)
        if state is None:  # new folder, or the state was lost in a power failure: keep the files as they are
            state = _State(owner=self._owner, offsets=dict.fromkeys(self._kept, 1 << 62))
        elif self._is_short(state.safe_offsets):  # somebody deleted or shortened a file: deliver everything again
            state = _State(owner=state.owner, offsets=dict.fromkeys(state.offsets, 0))
        elif self._is_short(state.offsets):  # a power failure did: deliver the records after the last `sync` again
            state.last = state.safe
            state.offsets = {name: state.safe_offsets.get(name, 0) for name in state.offsets}
        self.close_files()
        if state.owner != self._owner:  # the records are of an earlier journal, as of one that `tracelet gc` removed
            state.owner, state.last, state.safe = self._owner, 0, 0
        state.offsets = {name: self._cut(name, offset) for name, offset in state.offsets.items()}
        self._state = state

    def append(self, name: str, data: bytes, *, header: bytes = b"") -> None:
        """Append `data` to the file `name`, after `header` if the file is empty."""
        offset = self._state.offsets.get(name)
        if offset is None:
            offset = self._cut(name, 0)
        file = self._open.get(name)
        if file is None:
            file = self._open[name] = io.FileIO(self._folder / name, "a", opener=no_follow)
        rest = memoryview(data if offset else header + data)
        length = offset + len(rest)
        while rest:  # an almost full disk accepts a part, and rejects the next
            rest = rest[file.write(rest) :]
        self._state.offsets[name] = length

    def commit(self, last: int) -> None:
        """From now on the files hold all records up to sequence number `last`."""
        self._state.last = last
        replace(self._folder / _STATE, msgspec.json.encode(self._state))

    def sync(self) -> None:
        """Flush the files to the disk (fsync)."""
        for file in self._open.values():
            os.fsync(file.fileno())
        self._state.safe, self._state.safe_offsets = self._state.last, dict(self._state.offsets)
        replace(self._folder / _STATE, msgspec.json.encode(self._state))
        with open(self._folder / _STATE, "rb") as state:
            os.fsync(state.fileno())

    def close(self) -> None:
        """Close everything."""
        self.close_files()
        if self._place is not None:
            os.close(self._place)
            self._place = None

    def close_files(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def _is_short(self, offsets: Mapping[str, int]) -> bool:
        return any(self._size(name) < offset for name, offset in offsets.items())

    def _size(self, name: str) -> int:
        try:
            return (self._folder / name).stat().st_size
        except FileNotFoundError:
            return 0

    def _cut(self, name: str, offset: int) -> int:
        with contextlib.suppress(FileNotFoundError), open(self._folder / name, "rb+", opener=no_follow) as file:
            size = file.seek(0, os.SEEK_END)
            if size < offset:  # a power failure truncated it, perhaps in the middle of a line
                start = max(0, size - _TAIL)
                file.seek(start)
                offset = start + file.read().rfind(b"\n") + 1
            file.truncate(offset)
            return offset
        return 0


def _open_folder(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders, and deletes no open files
        return None


def has_state(folder: Path) -> bool:
    """Return True if a run writes to the folder."""
    return (folder / _STATE).exists()


def claim(folder: Path, owner: str, run_id: str, files: Iterable[str]) -> Path:
    """Create and return the run's folder: `folder`, or its subfolder `run_id` if it holds another run or user files."""
    for candidate in _candidates(folder, run_id):
        make_private(candidate)
        state = _read(candidate)
        if state is not None and state.owner == owner:
            return candidate
        if any((candidate / name).exists() for name in (_STATE, *files)):
            continue
        with contextlib.suppress(FileExistsError):  # if two ranks arrive together, one creates it
            _create(candidate / _STATE, msgspec.json.encode(_State(owner=owner)))
            return candidate
    raise AssertionError("unreachable: there are infinitely many candidates")


def replace(path: Path, data: bytes) -> None:
    """Replace the content of `path` in one step: a reader sees the old or the new content, also after a kill."""
    temporary = path.with_name(f"{path.name}.new")
    with create(temporary) as file:
        file.write(data)
    os.replace(temporary, path)


def _create(path: Path, data: bytes) -> None:
    """Create a file completely or not at all. On a full disk, a partial one would block the folder for every run.

    Raises:
        FileExistsError: the file exists.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with create(draft) as file:
            file.write(data)
        try:
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
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
    return read_note(folder / _STATE, _State)
