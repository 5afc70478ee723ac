"""Fork the programs of tests from a process that has already done the slow imports.

`python preloaded.py FD` serves requests on the socket FD. Each describes a program in JSON, and passes its three
standard streams and a pipe for its exit status. The child leaves the loop and continues as an interpreter started with
`-c`: uncaught errors, `atexit` and threads end as usual.
"""

# Without `from __future__ import annotations`: `compile` would apply it to the programs.
import contextlib
import gc
import io
import json
import os
import select
import signal
import socket
import sys
from typing import Any, TypedDict

PRELOADED = (
    "torch",
    "torch.utils.tensorboard",
    "tensorboardX",
    "PIL.Image",
    "pandas",
    "requests",
    "sqlalchemy",
    "pydantic",
)
_REQUEST_BYTES = 1 << 20
_DESCRIPTORS = 4


class Request(TypedDict):
    """Describe a program: `command` is that of `python -c`, `folder` its working directory."""

    command: list[str]
    environment: dict[str, str]
    folder: str
    own_group: bool


def serve(channel: socket.socket) -> tuple[Request, list[int]] | None:
    """Return the request of the program that this process becomes; in the parent, None when the tests are over."""
    status_pipes: dict[int, int] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    gc.freeze()
    sources: list[socket.socket | int] = [channel, woken]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if woken in ready:
            while _drained(woken):
                pass
            _report_ended(status_pipes)
        if channel in ready:
            data, descriptors, _, _ = socket.recv_fds(channel, _REQUEST_BYTES, _DESCRIPTORS)
            if not data:
                return None
            *streams, status = descriptors
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for descriptor in (woken, wake, channel.detach(), *status_pipes.values(), status):
                    os.close(descriptor)
                return json.loads(data), streams
            status_pipes[pid] = status
            os.write(status, f"{pid}\n".encode())
            for descriptor in streams:
                os.close(descriptor)


def _drained(woken: int) -> bytes:
    try:
        return os.read(woken, 4096)
    except BlockingIOError:
        return b""


def _report_ended(status_pipes: dict[int, int]) -> None:
    while status_pipes:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        pipe = status_pipes.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # the test has closed its end
            os.write(pipe, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os.close(pipe)


def become(request: Request, streams: list[int]) -> None:
    """Make this process look like a fresh interpreter that runs `request`."""
    import tempfile

    for target, descriptor in enumerate(streams):
        os.dup2(descriptor, target)
        os.close(descriptor)
    if request["own_group"]:
        os.setpgrp()
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    tempfile.tempdir = None
    sys.stdin = io.TextIOWrapper(open(0, "rb"), encoding="utf-8")  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(open(1, "wb"), encoding="utf-8")  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(open(2, "wb"), "utf-8", "backslashreplace", line_buffering=True)  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
    sys.orig_argv[:] = request["command"]
    sys.argv[:] = ["-c", *request["command"][3:]]
    sys.path[0] = ""


def run(source: str) -> None:
    """Run `source` as the main module, and remove this module from it before."""
    code, main = compile(source, "<string>", "exec"), sys.modules["__main__"].__dict__
    own: dict[str, Any] = {
        name: main[name] for name in ("__name__", "__builtins__", "__spec__", "__loader__", "__package__", "__doc__")
    }
    main.clear()
    main.update(own | {"__spec__": None, "__doc__": None})
    exec(code, main)


if __name__ == "__main__":
    for module in PRELOADED:
        __import__(module)
    received = serve(socket.socket(fileno=int(sys.argv[1])))
    if received is None:
        sys.exit()
    become(*received)
    run(received[0]["command"][2])
