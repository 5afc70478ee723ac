"""Copy the output of the program, on `sys.stdout` and `sys.stderr`, to one file.

The stream objects stay the same. Each gets a new `write`, which first calls the previous one and returns its result. So
logging handlers, progress bars and notebooks that already have a reference to a stream are captured too.
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

MAX_BYTES = 8 << 20
"""Maximum size of the file; if it is larger, the middle is removed."""
_HEAD = 1 << 18
_TAIL = MAX_BYTES // 2
_MAX_QUEUED = 4 << 20
_MAX_LINE = 1 << 16

_NONE = object()


class Console:
    """Capture output from `install` to `remove`; `write` and `finish`, on one thread, append it to `path`."""

    def __init__(self, path: Path, guard: Guard, hide: Callable[[str], str], max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._guard, self._hide, self._max_bytes = guard, hide, max_bytes
        self._pid = os.getpid()
        self._queue: deque[tuple[str, str]] = deque()
        self._queued_chars = 0
        self._has_dropped = False
        self._open = False
        self._undo: list[Callable[[], None]] = []
        self._unfinished_lines: defaultdict[str, list[str]] = defaultdict(list)
        """The pieces of each stream's last, unfinished line."""

    def install(self) -> None:
        self._open = True
        streams = {id(stream): (name, stream) for name, stream in (("stderr", sys.stderr), ("stdout", sys.stdout))}
        for name, stream in streams.values():
            if stream is not None:
                self._guard.call(self._wrap, name, stream)

    def remove(self) -> None:
        """Restore the streams. If another tool wrapped one later, our `write` stays and only calls the original."""
        self._open = False
        while self._undo:
            self._guard.call(self._undo.pop())

    def _wrap(self, name: str, stream: Any) -> None:
        previous = _own_write(stream)
        original = stream.write

        @functools.wraps(original)
        def write(text: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(text, *args, **kwargs)
            if self._open:
                self._guard.call(self._enqueue, name, text)
            return result

        def undo() -> None:
            if _own_write(stream) is not write:
                return
            if previous is _NONE:
                del stream.write
            else:
                stream.write = previous

        try:
            stream.write = write
        except AttributeError:  # a stream with slots accepts no new attribute
            self._guard.log_once(
                f"console {name}",
                "tracelet: cannot capture sys.%s: a %s does not allow replacing `write`",
                name,
                type(stream).__name__,
            )
            return
        self._undo.append(undo)

    def _enqueue(self, name: str, text: Any) -> None:
        """Queue printed text. Any thread and any signal handler may call this: no lock and no file access."""
        if not isinstance(text, str) or os.getpid() != self._pid:
            return
        self._queued_chars += len(text)
        self._queue.append((name, str.__str__(text)))
        if self._queued_chars > _MAX_QUEUED:
            self._make_room()

    def _make_room(self) -> None:
        """Drop the oldest text: the last output is more useful, and often shows why the program ended."""
        with contextlib.suppress(IndexError):  # another thread emptied it first
            while self._queued_chars > _MAX_QUEUED and len(self._queue) > 1:
                self._has_dropped = True
                self._queued_chars -= len(self._queue.popleft()[1])

    # On the collector thread.

    def write(self) -> None:
        """Append the complete lines to the file."""
        entries, lines = [], []
        with contextlib.suppress(IndexError):
            while True:
                entries.append(self._queue.popleft())
        self._queued_chars = 0
        if self._has_dropped:
            self._has_dropped = False
            lines += self._pop_unfinished()
            lines.append("[tracelet: output was dropped here; the buffer was full]")
        for name, text in entries:
            first, *more = text.split("\n")
            self._unfinished_lines[name].append(first)
            if more:
                lines.append("".join(self._unfinished_lines[name]))
                lines += more[:-1]
                self._unfinished_lines[name] = more[-1:]
        for name, pieces in self._unfinished_lines.items():
            last_line = _without_overwritten("".join(pieces))
            if len(last_line) > _MAX_LINE:
                lines.append(last_line)
                last_line = ""
            self._unfinished_lines[name] = [last_line]
        self._append(lines)

    def finish(self) -> bool:
        """Append all remaining text to the file; return True if the file exists."""
        self.write()
        self._append([line for line in self._pop_unfinished() if line.strip()])
        return self.path.exists()

    def _pop_unfinished(self) -> list[str]:
        """Return and forget the unfinished lines."""
        unfinished = ["".join(pieces) for pieces in self._unfinished_lines.values()]
        self._unfinished_lines.clear()
        return unfinished

    def _append(self, lines: list[str]) -> None:
        if not lines:
            return
        text = "".join([_without_overwritten(line).rstrip("\r") + "\n" for line in lines])
        data = self._hide(text).encode("utf-8", "backslashreplace")
        with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
            file.write(data)
            size = file.tell()
        if size > self._max_bytes:
            self._cut()

    def _cut(self) -> None:
        """Remove the middle of the file, since the beginning and the end are the most useful."""
        with open(self.path, "rb") as file:
            head = file.read(min(_HEAD, self._max_bytes // 4)).rpartition(b"\n")[0]
            file.seek(-min(_TAIL, self._max_bytes // 2), os.SEEK_END)
            tail = file.read().partition(b"\n")[2]
        new_path = self.path.with_suffix(".new")
        with contextlib.suppress(FileNotFoundError):
            new_path.unlink()
        with open(os.open(new_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(head + b"\n[tracelet: the middle of the output was removed]\n" + tail)
        os.replace(new_path, self.path)


def _own_write(stream: Any) -> Any:
    return getattr(stream, "__dict__", {}).get("write", _NONE)


def _without_overwritten(text: str) -> str:
    """Remove text that a carriage return overwrote, as a screen does.

    Keep one at the end: it overwrote nothing yet, and may be half of a line end.
    """
    body = text.rstrip("\r")
    return body.rpartition("\r")[2] + text[len(body) :]
