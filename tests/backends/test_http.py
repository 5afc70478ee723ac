"""One short request, whatever the server does."""

from __future__ import annotations

import time

import pytest
from backends.mlflow_server import dripping

from tracelet.backends.http import request

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n"


@pytest.mark.parametrize("head", [b"", HEAD + b"X-Filler: ", HEAD + b"\r\n"], ids=["status", "headers", "body"])
def test_an_answer_of_a_byte_at_a_time_is_given_up(head: bytes) -> None:
    """Each byte restarts the socket's timeout; the whole request ends after twice as much."""
    begun = time.monotonic()
    with dripping(head) as url, pytest.raises(TimeoutError, match="not complete"):
        request(url, 0.5, read_body=True)
    assert time.monotonic() - begun < 5
