"""What the doctor asks, and how: each question in a process of its own.

A vendor's package may print, phone home, hang or crash when it is imported; there it meets nobody.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any, TypeAlias, TypeVar

import msgspec

from tracelet.capture.tensorboard.foreign_patches import OtherPatch

IMPORT = 30.0
"""Seconds that a package may take to be imported; a file server that is cold needs many."""
_END = 5.0
_PROGRAM = "import sys; sys.path[:] = {path!r}; from tracelet.doctor.child import main; main()"


class AboutBackend(msgspec.Struct, frozen=True, kw_only=True, tag="backend"):
    """Can a run be begun there? `package` is imported first; the answer may take `timeout` seconds from then on."""

    name: str
    package: str | None
    config: dict[str, Any]
    timeout: float


class AboutWriter(msgspec.Struct, frozen=True, kw_only=True, tag="writer"):
    """Does what a writer of this module is told arrive? One is made in `folder`."""

    module: str
    folder: str


Question: TypeAlias = AboutBackend | AboutWriter


class BackendAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """As `Probe`, with `Backend.native_capture`, and where each kind of record lands; "" where that is not said."""

    ok: bool
    detail: str
    reachable: bool | None = None
    signed_in: bool | None = None
    own_capture: str | None = None
    places: dict[str, str] = {}
    filtered: tuple[str, ...] = ()


class WriterAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it arrived, why not, and who else listens at this writer."""

    ok: bool
    detail: str
    others: tuple[OtherPatch, ...] = ()


A = TypeVar("A", BackendAnswer, WriterAnswer)


def ask(question: Question, kind: type[A], seconds: float) -> A:
    """The answer of a new process, or one that says why there is none. The process is gone afterwards."""
    try:
        started = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        return kind(ok=False, detail=f"there is no process to try it in: {error}")
    with started as process:
        try:
            told, _ = process.communicate(msgspec.json.encode(question), IMPORT + seconds + _END)
        except subprocess.TimeoutExpired:
            return kind(ok=False, detail=f"no answer within {IMPORT + seconds:g} s, the time for imports included")
        finally:
            process.kill()
    if not told:
        return kind(ok=False, detail=f"the process that tried it ended with code {process.returncode}")
    return msgspec.json.decode(told, type=kind)
