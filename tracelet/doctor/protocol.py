"""Questions and answers of the doctor. Each question runs in its own process.

The import of a vendor's package may print, use the network, hang or crash. A separate process isolates it.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any, TypeAlias, TypeVar

import msgspec

from tracelet.capture.tensorboard.foreign_patches import OtherPatch
from tracelet.settings import import_path

IMPORT = 30.0
"""Seconds for the import of a package, which is slow on a cold file server."""
_EXIT = 5.0
_PROGRAM = "import sys; sys.path[:] = {path!r}; from tracelet.doctor.child import main; main()"


class AboutBackend(msgspec.Struct, frozen=True, kw_only=True, tag="backend"):
    """Ask if a backend works. Import `package` first; then the probe may take `timeout` seconds."""

    name: str
    package: str | None
    config: dict[str, Any]
    timeout: float


class AboutWriter(msgspec.Struct, frozen=True, kw_only=True, tag="writer"):
    """Ask if the records of a writer of `module` are captured. Create the writer in `folder`."""

    module: str
    folder: str


Question: TypeAlias = AboutBackend | AboutWriter


class BackendAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A `Probe` with `Backend.native_capture` and the location of each kind of record, "" if unknown."""

    ok: bool
    detail: str
    reachable: bool | None = None
    signed_in: bool | None = None
    own_capture: str | None = None
    places: dict[str, str] = {}
    filtered: tuple[str, ...] = ()


class WriterAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The result of the capture check, its reason, and the patches of other tools."""

    ok: bool
    detail: str
    others: tuple[OtherPatch, ...] = ()


A = TypeVar("A", BackendAnswer, WriterAnswer)


def ask(question: Question, kind: type[A], seconds: float) -> A:
    """Return the answer of a new process, or a failed answer with the reason. Then end the process."""
    try:
        started = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(path=import_path())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        return kind(ok=False, detail=f"cannot start a process for the check: {error}")
    with started as process:
        try:
            output, _ = process.communicate(msgspec.json.encode(question), IMPORT + seconds + _EXIT)
        except subprocess.TimeoutExpired:
            return kind(ok=False, detail=f"no answer within {IMPORT + seconds:g} s, including imports")
        finally:
            process.kill()
    if not output:
        return kind(ok=False, detail=f"the process of the check ended with code {process.returncode}")
    return msgspec.json.decode(output, type=kind)
