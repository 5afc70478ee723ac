"""Use a repository on an `aim server` with deadlines: check the server, wait for acknowledgements, disconnect.

Aim's client puts all writes into a queue, waits for the server without a deadline, and reports no lost connection.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tracelet.backends.aim.config import without_user
from tracelet.backends.call import Call
from tracelet.backends.http import THROTTLED, NotHttp, Response, request
from tracelet.errors import BackendUnavailable

T = TypeVar("T")

SCHEME = "aim://"
_PROBE_TIMEOUT = 2.0
_POLL = 0.2
_REJECTED = (401, 403, 429)
# Errors of Aim's client if it receives an error page, for example from a proxy in front of the server.
_INVALID_RESPONSE = (AssertionError, AttributeError, LookupError, TypeError, ValueError, struct.error)


def check_server(repo: str) -> None:
    """Check that a server answers. Aim itself would wait for half a minute.

    Raises:
        BackendUnavailable: no server answers within seconds, or it rejects requests for now.
    """
    address = repo.removeprefix(SCHEME).rstrip("/")
    parts = urlsplit(f"//{address}")
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 53800), _PROBE_TIMEOUT):
            pass
        response = _request_status(address.rpartition("@")[2])
    except (OSError, ValueError) as error:
        raise BackendUnavailable(
            f"aim: no Aim server answers at {without_user(repo)} ({error}). Start one with `aim server`"
        ) from error
    # Any other status is an answer: the client reports a wrong path.
    if response.status in _REJECTED or response.status >= 500:
        reason = f"aim: the Aim server at {without_user(repo)} returned {response.status} {response.reason}"
        raise BackendUnavailable(reason, retry_after=response.retry_after if response.status in THROTTLED else None)


def _request_status(address: str) -> Response:
    try:
        return request(f"http://{address}/status/", _PROBE_TIMEOUT)
    except (NotHttp, ConnectionResetError):  # perhaps TLS. Any certificate will do: the request contains no secret
        return request(f"https://{address}/status/", _PROBE_TIMEOUT, insecure=True)


def call_within(seconds: float, name: str, call: Callable[[], T]) -> T:
    """Return the result of a call to a server.

    The call has its own thread, because Aim's requests have no deadline and a server may hang during one. A thread
    that hangs is abandoned: it is a daemon, and the next start of the run resumes after the last durable record.

    Raises:
        BackendUnavailable: the call takes longer than `seconds`, or the response is invalid.
    """
    result = Call(call, "aim-call")
    if not result.wait(seconds):
        raise BackendUnavailable(f"aim: the server did not answer within {seconds:g} s ({name})")
    if isinstance(result.error, _INVALID_RESPONSE):
        raise BackendUnavailable(f"aim: the server's response is invalid: {result.error!r}") from result.error
    return result.result()


class RemoteClient:
    """The client of one remote repository, with its queue of unacknowledged writes."""

    def __init__(self, run: Any) -> None:
        self._run, self._client = run, run.repo._client
        self._queue = self._client.get_queue()
        self._finalizers: list[tuple[int, Any]] = []
        self._take_finalizers()

    def drain(self, stall_timeout: float) -> None:
        """Wait until the server has acknowledged all writes.

        Raises:
            BackendUnavailable: no write was acknowledged for `stall_timeout` seconds, or the server rejected one. Then
                Aim's worker thread has ended.
        """
        tasks = self._queue._queue
        remaining, deadline = float("inf"), 0.0
        with tasks.all_tasks_done:
            while tasks.unfinished_tasks:
                if tasks.unfinished_tasks < remaining:
                    remaining, deadline = tasks.unfinished_tasks, time.monotonic() + stall_timeout
                if time.monotonic() >= deadline or not self._queue._thread.is_alive():
                    raise BackendUnavailable("aim: the server does not acknowledge the records")
                tasks.all_tasks_done.wait(_POLL)

    def end(self) -> None:
        """Close all resources of the client, in Aim's own order."""
        self._take_finalizers()
        for _, finalizer in sorted(self._finalizers, key=lambda entry: -entry[0]):
            finalizer()  # before `close`: afterwards each one prints a KeyError
        self._run.close()
        self._end_worker()

    def abandon(self) -> None:
        """Disconnect without a request to the server: Aim's own shutdown would wait for it."""
        self._take_finalizers()
        for _, finalizer in self._finalizers:
            finalizer.detach()
        self._client._heartbeat_sender._shutdown = True
        self._end_worker()
        if self._client._ws is not None:
            with contextlib.suppress(OSError):  # closed already
                self._client._ws.socket.shutdown(socket.SHUT_RDWR)
        # The queue is shut down, so these two end without a server.
        if self._run._system_resource_tracker is not None:
            self._run._system_resource_tracker.stop()
        self._run._checkins.close()

    def _end_worker(self) -> None:
        self._queue._shutdown = True
        # The worker waits for a task without a deadline. One more task makes it check the flag.
        self._queue._queue.put((lambda nothing: None, ((),)))

    def _take_finalizers(self) -> None:
        """Remove this client from Aim's exit hook: without a server, the hook would keep the program from ending."""
        from aim.ext.cleanup import AutoClean

        for owner, (priority, finalizer) in list(AutoClean._finalizers.items()):
            resources = getattr(finalizer.peek()[1], "__self__", None) if finalizer.alive else None
            clients = (getattr(resources, name, None) for name in ("rpc_client", "_client"))
            if getattr(resources, "repo", None) is self._run.repo or any(client is self._client for client in clients):
                self._finalizers.append((priority, finalizer))
                del AutoClean._finalizers[owner]
