"""Run the server of a viewer on loopback, and end it with its child processes."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType

from tracelet.backends.viewers import viewer_command
from tracelet.errors import ConfigurationError, TraceletError
from tracelet.filesystem import create, make_private

HOST = "127.0.0.1"
_POLL_EVERY = 0.1
# Seconds for one request, for the server to start (MLflow takes 20 on a busy machine), and from SIGTERM to SIGKILL.
_REQUEST_TIMEOUT, _START_TIMEOUT, _END_TIMEOUT = 5.0, 120.0, 5.0
_LOG_LINES = 5


class ViewerServer:
    """The vendor's server for the stores in `folder`. Its output is in `server.log` there.

    Use it as a context manager: at the end, the server and its child processes are ended.
    """

    def __init__(self, viewer: str, folder: Path, store: Path, port: int | None = None) -> None:
        """Start the server.

        Raises:
            ConfigurationError: `port` is not free.
            OSError: the process cannot be started.
        """
        self.viewer, self._log = viewer, folder / "server.log"
        self._port = _free_port(port)
        self.url = f"http://{HOST}:{self._port}/"
        command = viewer_command(viewer, store, HOST, self._port)
        make_private(store)
        with create(self._log) as log:
            self._process = subprocess.Popen(
                command.arguments,
                env=dict(command.env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal reaches this process alone, which ends the server
            )

    def __enter__(self) -> ViewerServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def wait(self, timeout: float = _START_TIMEOUT) -> None:
        """Wait until the server answers.

        Raises:
            TraceletError: it ended, or did not answer in time. The message has the end of its log.
        """
        deadline, pause = time.monotonic() + timeout, threading.Event()
        while not self._answers():
            self.check()
            if time.monotonic() > deadline:
                raise TraceletError(f"{self.viewer} does not answer at {self.url} after {timeout:g} s: {self._tail()}")
            pause.wait(_POLL_EVERY)

    def check(self) -> None:
        """Check that the server still runs.

        Raises:
            TraceletError: it has ended. The message has the end of its log.
        """
        if self._process.poll() is not None:
            raise TraceletError(f"{self.viewer} ended with exit code {self._process.returncode}: {self._tail()}")

    def end(self) -> None:
        """End the server and its child processes: with SIGTERM, and after 5 s with SIGKILL."""
        import psutil  # here: other commands need no process table

        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._process.pid)
            processes = [server, *server.children(recursive=True)]
            for end, timeout in ((psutil.Process.terminate, _END_TIMEOUT), (psutil.Process.kill, 1.0)):
                for process in processes:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        end(process)
                _, processes = psutil.wait_procs(processes, timeout)
        self._process.wait(_END_TIMEOUT)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=_REQUEST_TIMEOUT)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return f"{' | '.join(line.strip() for line in lines)} (all of it: {self._log})"


def _free_port(port: int | None) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port or 0))
        except (OSError, OverflowError) as error:
            raise ConfigurationError(f"port {port} is not free on {HOST} ({error}). Choose another, or none") from error
        return int(probe.getsockname()[1])
