"""Agree on the id of a job's run, without communication between the ranks.

It is the launcher's own id of the job, if it has one. Otherwise the first rank writes a new id to a file in the folder
of the runs, and the others read it. The file is named for the launcher process on this node. In a job on several nodes,
a second file is named for the job's address. A later job may have the same, so it counts only if it is younger than
this node's launcher: launchers wait for each other before they start ranks.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tracelet.distributed.process import Job, Process
from tracelet.filesystem import make_private

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FOLDER = ".rendezvous"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]")
# The longest base id, so that `-worker-9999-rank-9999` and a number fit into the 64 characters of a run id.
_LONGEST = 36
# Seconds by which the clocks of two nodes may differ.
_CLOCK_SKEW = 1.0
# Seconds to wait for a lock that others hold for milliseconds.
_TIMEOUT = 5.0


def agreed_id(launched: Process | Job, runs: Path, new_id: Callable[[], str]) -> str:
    """Return the id that all ranks of this job get, and get again after an elastic restart.

    Args:
        runs: The folder of the runs. Ranks on several nodes agree only if they share it, or their launcher has an id.
        new_id: Creates an id.

    Raises:
        OSError: the folder cannot be written.
    """
    if launched.job_id is not None:
        return _fitting(launched.job_id)
    assert isinstance(launched, Process)
    pid, ticks = _launcher(launched.variable or "")
    began = _seconds(ticks)
    folder = runs / _FOLDER
    make_private(folder)
    local = folder / _key(f"{os.uname().nodename} {_boot_id()} {pid} {ticks}")
    is_alone = launched.num_workers == 1 or launched.meeting_point is None
    common = None if is_alone else folder / _key(str(launched.meeting_point))
    with _locked(folder / "lock"):
        found = _read(local)
        if found is not None:
            return found
        if common is None:
            return _claimed(local, new_id())
        if _read(common, after=began - _CLOCK_SKEW) is None:
            common.unlink(missing_ok=True)
        return _claimed(local, _claimed(common, new_id()))


def _claimed(path: Path, text: str) -> str:
    """Write a file if it does not exist. Return its content, also where two processes come at the same moment."""
    draft = path.with_name(f"{path.name}.{os.uname().nodename}.{os.getpid()}")
    draft.write_text(text, encoding="ascii")
    try:
        os.link(draft, path)
    except FileExistsError:
        return path.read_text(encoding="ascii")
    finally:
        draft.unlink()
    return text


def _fitting(text: str) -> str:
    """Return a text as the start of a run id. Texts that are too long, or have other characters, stay distinct."""
    clean = _UNSAFE.sub("-", text)
    if clean[:1].isalnum() and clean == text and len(text) <= _LONGEST:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{clean[: _LONGEST - 12].lstrip('-_.') or 'job'}-{digest}"


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _read(path: Path, *, after: float = 0.0) -> str | None:
    """Return the id in a file, or None if there is none or it is older."""
    try:
        return path.read_text(encoding="ascii") if path.stat().st_mtime >= after else None
    except (FileNotFoundError, UnicodeDecodeError):
        return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process; do without it after a timeout, or on a file system without locks."""
    with open(path, "ab") as file:
        deadline = time.monotonic() + _TIMEOUT
        while fcntl is not None and time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.005)
            except OSError:  # a network file system without locks
                break
        yield


def _launcher(variable: str) -> tuple[int, int]:
    """Return the launcher's process id and its start, in clock ticks since the boot: the first ancestor without
    `variable`.

    Where the system does not show other processes, it is the parent, with an unknown start: 0.
    """
    pid = os.getppid()
    with contextlib.suppress(OSError):
        while pid > 1 and f"{variable}=".encode() in [word[: len(variable) + 1] for word in _environment(pid)]:
            pid = int(_status(pid)[1])
    with contextlib.suppress(OSError):
        return pid, int(_status(pid)[19])
    return pid, 0


def _seconds(ticks: int) -> float:
    """Return a time since the boot as seconds since 1970, or 0 if it is unknown."""
    if not ticks:
        return 0.0
    uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _environment(pid: int) -> list[bytes]:
    return _proc(pid, "environ").split(b"\0")


def _status(pid: int) -> list[bytes]:
    """Return the fields of `/proc/PID/stat` after the command's name, which may have spaces."""
    return _proc(pid, "stat").rpartition(b") ")[2].split()


def _proc(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()
