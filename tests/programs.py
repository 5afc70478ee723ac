"""Run programs in a process of their own, each with a deadline."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

from preloaded import Request
from support import TESTS

from tracelet.journal.store import JournalReader
from tracelet.records import Scalar

DEADLINE = 90
_send_lock = threading.Lock()


class Program(subprocess.Popen[str]):
    """A process with three pipes. `run_program` sets `out` and `err`, its output, and `seconds`, its duration."""

    stdin: IO[str]
    stdout: IO[str]
    stderr: IO[str]
    out: str
    err: str
    seconds: float


def _python_variables(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}


_AT_START = _python_variables(os.environ)


def run_program(
    source: str,
    *arguments: object,
    deadline: float = DEADLINE,
    options: Sequence[str] = (),
    fresh: bool = False,
    **environment: str,
) -> Program:
    """Run a program to its end, and return it with `out`, `err` and `seconds`."""
    began = time.monotonic()
    with started(source, *arguments, options=options, own_group=False, fresh=fresh, **environment) as program:
        program.out, program.err = program.communicate(timeout=deadline)
    program.seconds = time.monotonic() - began
    return program


@contextlib.contextmanager
def started(
    source: str,
    *arguments: object,
    options: Sequence[str] = (),
    own_group: bool = False,
    fresh: bool = False,
    **environment: str,
) -> Iterator[Program]:
    """Start a program; kill it at the end of the block if it still runs.

    It is forked from an interpreter that has torch imported, unless it has to be `fresh`, or has Python options or
    variables.
    """
    variables = {**os.environ, **environment}
    start: Callable[[list[str], dict[str, str], bool], Program]
    start = _spawn if fresh or options or _python_variables(variables) != _AT_START else ForkedProgram
    command = [sys.executable, *options, "-c", textwrap.dedent(source), *[str(argument) for argument in arguments]]
    program = start(command, variables, own_group)
    try:
        yield program
    finally:
        if program.poll() is None:
            program.kill()
            program.wait()
        with contextlib.suppress(BrokenPipeError):
            program.stdin.close()
        program.stdout.close()
        program.stderr.close()


def _spawn(command: list[str], environment: dict[str, str], own_group: bool) -> Program:
    pipe = subprocess.PIPE
    group = os.setpgrp if own_group else None
    return Program(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment, preexec_fn=group)


class ForkedProgram(Program):
    """A program that `preloaded.py` forks, with the members of a `Popen`; its exit status comes through a pipe."""

    _channel: ClassVar[socket.socket | None] = None
    _interpreter: ClassVar[subprocess.Popen[bytes]]

    def __init__(self, command: list[str], environment: dict[str, str], own_group: bool) -> None:
        self._request = Request(command=command, environment=environment, folder=os.getcwd(), own_group=own_group)
        pipe = subprocess.PIPE
        super().__init__(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def _execute_child(self, *arguments: Any) -> None:
        """Do as `Popen._execute_child`; the arguments from the tenth on are both ends of each stream."""
        stdin, _, _, stdout, _, stderr = arguments[10:16]
        ended, status = os.pipe()
        theirs = [stdin, stdout, stderr, status]
        with _send_lock:
            socket.send_fds(self._preloaded(), [json.dumps(self._request).encode()], theirs)
        for descriptor in theirs:
            os.close(descriptor)
        self._closed_child_pipe_fds = True
        self._status = os.fdopen(ended, encoding="ascii")
        self.pid = int(self._status.readline())

    @classmethod
    def _preloaded(cls) -> socket.socket:
        """Return the channel to the interpreter that forks; start it if this process has none."""
        if cls._channel is None:
            cls._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                command = [sys.executable, str(TESTS / "preloaded.py"), str(theirs.fileno())]
                # It ends when the channel does, also if this process is killed.
                cls._interpreter = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        return cls._channel

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self._take_status()
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                assert timeout is not None  # without one, `select` waits
                raise subprocess.TimeoutExpired(self.args, timeout)
            self._take_status()
        return self.returncode

    def _take_status(self) -> None:
        self.returncode = int(self._status.readline())
        self._status.close()


def signalled(source: str, *signals: int, deadline: float = DEADLINE) -> Program:
    """Run a program to its end; send it the next of `signals` each time it prints a line."""
    with started(source) as program:
        for number in signals:
            assert program.stdout.readline(), program.stderr.read()
            program.send_signal(number)
        program.out, program.err = program.communicate(timeout=deadline)
    return program


def the_run() -> Path:
    """Return the folder of the only run below TRACELET_DIR."""
    (journal,) = Path(os.environ["TRACELET_DIR"]).glob("*/*/journal.db")
    return journal.parent


def ending(folder: Path) -> tuple[str, int | None]:
    """Return the status and the exit code in the journal."""
    with JournalReader(folder) as reader:
        facts = reader.facts()
    return facts["status"], facts.get("exit_code")


def csv_values(folder: Path, tag: str = "loss") -> list[float]:
    """Return the values in the csv backend's folder; none if it has no scalars."""
    path = folder / "csv" / "scalars.csv"
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["tag"] == tag]


def journal_values(folder: Path, tag: str = "loss") -> list[float]:
    with JournalReader(folder) as reader:
        return [record.value for record in reader.records() if isinstance(record, Scalar) and record.tag == tag]


KILLED = -int(signal.SIGTERM)
