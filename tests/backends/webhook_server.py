"""A stand-in for the server behind a webhook, of Slack, Discord or anybody, on this machine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from backends.http_stand_in import Handler, Listener


class Answer(NamedTuple):
    """`status` 0 hangs until the server ends."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class Received(NamedTuple):
    at: float
    method: str
    path: str
    """The whole address if the request came by a proxy."""
    body: Any


class WebhookServer(Listener):
    """Give the `answers` in order, then 200."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.received: list[Received] = []
        self.ended = threading.Event()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def bodies(self) -> list[Any]:
        return [one.body for one in self.received]


class _Handler(Handler):
    server: WebhookServer

    def do_POST(self) -> None:
        body = self.body()
        self.server.received.append(
            Received(time.monotonic(), self.command, self.path, json.loads(body) if body else None)
        )
        answer = self.server.answers.pop(0) if self.server.answers else Answer()
        if not answer.status:
            self.server.ended.wait(60)
            return
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def serving(*answers: Answer) -> Iterator[WebhookServer]:
    server = WebhookServer(*answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.hang_up()
        server.shutdown()
        server.server_close()
        thread.join(10)
