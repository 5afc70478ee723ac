"""Run a reverse proxy on loopback, between a real SDK and its server, that misbehaves on command.

It forwards TCP, so that it supports every protocol of the vendors (HTTP, chunked uploads, web sockets). If it answers
in place of the server, it does so as a gateway: a status, and a short page of JSON.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

REASONS = {401: "Unauthorized", 403: "Forbidden", 429: "Too Many Requests", 500: "Internal Server Error"}
_CONNECT = 5.0
_CHUNK = 65536


class FaultProxy:
    """Forward connections to `target` ("host:port"), or misbehave as set by `set`.

    Modes: `pass`; `refuse` (nobody listens; the port stays reserved); `hang` (accept connections and never answer);
    `401`, `403`, `429` (Retry-After: 1), `500` for every request; `slow` (200 ms before a request is forwarded). A mode
    applies to open connections, too.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.mode = "pass"
        self.seen: list[tuple[float, str]] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.port = 0
        self._closed = False
        self._listen()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def set(self, mode: str) -> None:
        """Change the mode, also of open connections."""
        previous, self.mode = self.mode, mode
        if mode == "refuse":
            self._stop_listening()
        elif previous == "refuse":
            self._listen()
        if mode in ("refuse", "pass") or previous == "hang":
            self._hang_up()

    @contextlib.contextmanager
    def fault(self, mode: str) -> Iterator[None]:
        """Set the mode until the block ends."""
        self.set(mode)
        try:
            yield
        finally:
            self.set("pass")

    def close(self) -> None:
        self._closed = True
        self._stop_listening()
        self._hang_up()

    # Threads.

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port, self._listener = listener.getsockname()[1], listener
        threading.Thread(target=self._accept, args=(listener,), name="fault-proxy", daemon=True).start()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _hang_up(self) -> None:
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), name="fault-proxy", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._tracked(client), contextlib.suppress(OSError):
            with self._tracked(socket.create_connection(self._target, _CONNECT)) as server:
                server.settimeout(None)
                for connection in (client, server):
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=self._backward, args=(server, client), name="fault-proxy", daemon=True)
                back.start()
                self._forward(client, server)
                for connection in (client, server):
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                back.join(_CONNECT)

    @contextlib.contextmanager
    def _tracked(self, connection: socket.socket) -> Iterator[socket.socket]:
        with self._lock:
            self._open.add(connection)
        try:
            yield connection
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        while data := client.recv(_CHUNK):
            mode = self.mode
            head = data.split(b"\r\n", 1)[0]
            if head.endswith((b"HTTP/1.1", b"HTTP/1.0")):
                self.seen.append((time.monotonic(), f"{mode} {head.decode('latin-1')}"))
            if mode == "hang":
                self._wait_for_end(client)
                return
            if mode.isdigit():
                client.sendall(_answer(int(mode)))
                self._discard(client)
                return
            if mode == "slow":
                time.sleep(0.2)
            server.sendall(data)

    def _backward(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(_CHUNK):
                if self.mode == "hang":
                    return
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)

    @staticmethod
    def _wait_for_end(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while client.recv(_CHUNK):
                pass

    @staticmethod
    def _discard(client: socket.socket) -> None:
        """Read the rest of the request: closing before would reset the connection, and the answer would be lost."""
        client.shutdown(socket.SHUT_WR)
        client.settimeout(1.0)
        with contextlib.suppress(OSError):
            while client.recv(_CHUNK):
                pass


def _answer(code: int) -> bytes:
    page = json.dumps({"error": REASONS[code]}).encode()
    head = [f"HTTP/1.1 {code} {REASONS[code]}", "Content-Type: application/json", f"Content-Length: {len(page)}"]
    head += ["Retry-After: 1"] if code == 429 else []
    return "\r\n".join([*head, "Connection: close", "", ""]).encode() + page


@contextlib.contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    proxy = FaultProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
