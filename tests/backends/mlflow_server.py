"""Run a real `mlflow server` on loopback, and a proxy in front of it that can misbehave. Both have deadlines."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

START = 90
Answer = tuple[int, bytes] | None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`mlflow server` with one worker and a store in `folder`. It can be killed and started again."""

    def __init__(self, folder: Path, template: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.database, self.artifacts = folder / "mlflow.db", folder / "artifacts"
        shutil.copyfile(template, self.database)
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.database}", "--workers", "1"]
        command += ["--artifacts-destination", str(self.artifacts)]
        environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill the server and its worker, which are a process group."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1):
                return True
        except OSError:
            return False


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Yield a server with an empty store in `folder`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(f"sqlite:///{folder / 'empty.db'}", "mlflow-artifacts:/").engine.dispose()
    server = Server(folder, folder / "empty.db")
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Proxy:
    """Forward requests to `target`, unless `refuse(method, path, body)` returns an answer. Requests are in `seen`."""

    def __init__(self, target: str) -> None:
        self.refuse: Callable[[str, str, bytes], Answer] = lambda method, path, body: None
        self.watch: Callable[[], Any] = lambda: None
        self.seen: list[tuple[str, str, dict[str, str], int]] = []
        self.watched: list[Any] = []
        self.drips = ""
        """The part of each answer, `headers` or `body`, that is sent a byte every 0.2 s until `recovered` is set."""
        self.recovered = threading.Event()
        proxy, (host, port) = self, target.removeprefix("http://").split(":")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.seen.append((self.command, self.path, dict(self.headers), len(body)))
                proxy.watched.append(proxy.watch())
                status, data = proxy.refuse(self.command, self.path, body) or self._fetch(body)
                if proxy.drips == "headers":
                    self._drip(f"HTTP/1.1 {status} OK\r\nX-Filler: {'a' * 1000}\r\n".encode())
                else:
                    self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if proxy.drips == "body":
                    self._drip(data)
                else:
                    self.wfile.write(data)

            def _drip(self, data: bytes) -> None:
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    proxy.recovered.wait(0.2)

            def _fetch(self, body: bytes) -> tuple[int, bytes]:
                connection = http.client.HTTPConnection(host, int(port), timeout=30)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                try:
                    connection.request(self.command, self.path, body, headers)
                    answer = connection.getresponse()
                    return answer.status, answer.read()
                finally:
                    connection.close()

            def log_message(self, *args: Any) -> None:
                """Log nothing."""

        for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{verb}", Handler._pass)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *args: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self.recovered.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@contextlib.contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    running = Proxy(target)
    try:
        yield running
    finally:
        running.close()


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """Yield the address of a socket that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """Yield the address of a server that sends `head` at once and then a byte every 0.1 s, for ever."""
    ended = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(head)
                while not ended.wait(0.1):
                    connection.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join(10)
