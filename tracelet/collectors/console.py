"""What the program prints: `sys.stdout` and `sys.stderr` are read as they are written to, and kept in one file.

The streams stay the objects that they are. Each gets a `write` of its own, which calls the one before first and gives
its result, so that handlers of logging, progress bars and notebooks that hold a stream already are read as well.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tracelet.guard import Guard

MOST_BYTES = 8 << 20
"""Of the file; beyond it the middle goes."""
_HEAD = 1 << 18
_TAIL = MOST_BYTES // 2
_MOST_WAITING = 4 << 20
_LONGEST_LINE = 1 << 16

_NONE = object()


class Console:
    """From `install` to `remove` what is printed is taken; `write` and `finish`, on one thread, bring it to `path`."""

    def __init__(self, path: Path, guard: Guard, hide: Callable[[str], str], most_bytes: int = MOST_BYTES) -> None:
        self.path = path
        self._guard, self._hide, self._most = guard, hide, most_bytes
        self._pid = os.getpid()
        self._taken: deque[tuple[str, str]] = deque()
        self._waiting = 0
        self._missed = False
        self._open = False
        self._undo: list[Callable[[], None]] = []
        self._rest: defaultdict[str, list[str]] = defaultdict(list)
        """Of each stream the pieces of its last line."""

    def install(self) -> None:
        self._open = True
        streams = {id(one): (name, one) for name, one in (("stderr", sys.stderr), ("stdout", sys.stdout))}
        for name, stream in streams.values():
            if stream is not None:
                self._guard.call(self._wrap, name, stream)

    def remove(self) -> None:
        """Put back what is still ours; where somebody wrapped a stream after us, ours passes on and takes nothing."""
        self._open = False
        while self._undo:
            self._guard.call(self._undo.pop())

    def _wrap(self, name: str, stream: Any) -> None:
        before = _own_write(stream)
        original = stream.write

        @functools.wraps(original)
        def write(text: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(text, *args, **kwargs)
            if self._open:
                self._guard.call(self._take, name, text)
            return result

        def undo() -> None:
            if _own_write(stream) is not write:
                return
            if before is _NONE:
                del stream.write
            else:
                stream.write = before

        try:
            stream.write = write
        except AttributeError:  # a stream with slots takes no other method
            self._guard.log_once(
                f"console {name}", "tracelet: sys.%s is a %s, which cannot be read along", name, type(stream).__name__
            )
            return
        self._undo.append(undo)

    def _take(self, name: str, text: Any) -> None:
        """Any thread, also in a signal handler: no lock, and no file."""
        if not isinstance(text, str) or os.getpid() != self._pid:
            return
        self._waiting += len(text)
        self._taken.append((name, str.__str__(text)))
        if self._waiting > _MOST_WAITING:
            self._make_room()

    def _make_room(self) -> None:
        """The oldest goes: what is printed last tells more, and often why it is the last."""
        with contextlib.suppress(IndexError):  # another thread was faster
            while self._waiting > _MOST_WAITING and len(self._taken) > 1:
                self._missed = True
                self._waiting -= len(self._taken.popleft()[1])

    # On the collecting thread.

    def write(self) -> None:
        """Bring the lines that are complete to the file."""
        taken, lines = [], []
        with contextlib.suppress(IndexError):
            while True:
                taken.append(self._taken.popleft())
        self._waiting = 0
        if self._missed:
            self._missed = False
            lines += self._unfinished()
            lines.append("[tracelet: more was printed here than could be kept]")
        for name, text in taken:
            first, *more = text.split("\n")
            self._rest[name].append(first)
            if more:
                lines.append("".join(self._rest[name]))
                lines += more[:-1]
                self._rest[name] = more[-1:]
        for name, pieces in self._rest.items():
            rest = _shown("".join(pieces))
            if len(rest) > _LONGEST_LINE:
                lines.append(rest)
                rest = ""
            self._rest[name] = [rest]
        self._append(lines)

    def finish(self) -> bool:
        """Bring all to the file; whether there is one."""
        self.write()
        self._append([rest for rest in self._unfinished() if rest.strip()])
        return self.path.exists()

    def _unfinished(self) -> list[str]:
        """The lines that have no end yet, which are let go."""
        unfinished = ["".join(pieces) for pieces in self._rest.values()]
        self._rest.clear()
        return unfinished

    def _append(self, lines: list[str]) -> None:
        if not lines:
            return
        text = "".join([_shown(line).rstrip("\r") + "\n" for line in lines])
        data = self._hide(text).encode("utf-8", "backslashreplace")
        with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
            file.write(data)
            size = file.tell()
        if size > self._most:
            self._cut()

    def _cut(self) -> None:
        """The beginning and the end tell most: the middle goes."""
        with open(self.path, "rb") as file:
            head = file.read(min(_HEAD, self._most // 4)).rpartition(b"\n")[0]
            file.seek(-min(_TAIL, self._most // 2), os.SEEK_END)
            tail = file.read().partition(b"\n")[2]
        spare = self.path.with_suffix(".new")
        with contextlib.suppress(FileNotFoundError):
            spare.unlink()
        with open(os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(head + b"\n[tracelet: the middle is left out]\n" + tail)
        os.replace(spare, self.path)


def _own_write(stream: Any) -> Any:
    return getattr(stream, "__dict__", {}).get("write", _NONE)


def _shown(text: str) -> str:
    """Without what a carriage return wrote over, which is gone on a screen as well. One at the end wrote over nothing
    yet, and may be half of a line's end."""
    body = text.rstrip("\r")
    return body.rpartition("\r")[2] + text[len(body) :]
