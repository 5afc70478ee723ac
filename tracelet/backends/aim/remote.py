"""A repository behind an `aim server`: is it there, what has it acknowledged, and how to let go of it in time.

Aim's client hands everything to a queue, waits for the server without a deadline, and says nothing when it is gone.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tracelet.backends.aim.config import redacted
from tracelet.backends.http import THROTTLED, retry_after_seconds
from tracelet.errors import BackendUnavailable

T = TypeVar("T")

SCHEME = "aim://"
_PROBE = 2.0
_POLL = 0.2
_NOT_NOW = (401, 403, 429)
# What Aim's client meets in the page of an error, of a proxy before the server above all.
_NOT_AN_ANSWER = (AssertionError, AttributeError, LookupError, TypeError, ValueError, struct.error)


def find(repo: str) -> None:
    """Raise BackendUnavailable where no server answers within seconds: Aim itself would wait for half a minute."""
    import http.client  # here: an HTTP client takes as long to import as the rest of the backend
    import urllib.error

    rest = repo.removeprefix(SCHEME).rstrip("/")
    parts = urlsplit(f"//{rest}")
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 53800), _PROBE):
            pass
        _ask_status(rest.rpartition("@")[2])
    except urllib.error.HTTPError as error:
        with error:
            wait = retry_after_seconds(error.headers.get("Retry-After")) if error.code in THROTTLED else None
            reason = f"aim: the Aim server at {redacted(repo)} answers {error.code} {error.reason}"
            raise BackendUnavailable(reason, retry_after=wait) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise BackendUnavailable(
            f"aim: no Aim server answers at {redacted(repo)} ({error}). Start one with `aim server`"
        ) from error


def _ask_status(address: str) -> None:
    import http.client
    import ssl
    import urllib.error
    import urllib.request

    try:
        urllib.request.urlopen(f"http://{address}/status/", timeout=_PROBE).close()
    except urllib.error.HTTPError as error:
        if error.code in _NOT_NOW or error.code >= 500:
            raise
        error.close()  # it answers; a wrong path is told by the client
    except (http.client.HTTPException, ConnectionResetError):  # TLS
        any_certificate = ssl._create_unverified_context()  # nothing is said to it yet
        urllib.request.urlopen(f"https://{address}/status/", timeout=_PROBE, context=any_certificate).close()


class _Outcome:
    """What a call on another thread came to."""

    value: Any = None
    error: BaseException | None = None

    def __init__(self) -> None:
        self.there = threading.Event()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        self.error = error
        self.there.set()
        return True


def within(seconds: float, what: str, call: Callable[[], T]) -> T:
    """The result of a call to a server, or BackendUnavailable when it takes too long.

    On a thread of its own, because Aim's requests have no deadline and a server may stop in the middle of one. A
    thread that hangs is left behind: it is a daemon, and the next start of the run goes on from what was confirmed.
    """
    outcome = _Outcome()

    def run() -> None:
        with outcome:
            outcome.value = call()

    threading.Thread(target=run, name="aim-call", daemon=True).start()
    if not outcome.there.wait(seconds):
        raise BackendUnavailable(f"aim: the server did not answer within {seconds:g} s ({what})")
    if isinstance(outcome.error, _NOT_AN_ANSWER):
        raise BackendUnavailable(f"aim: the server's answer cannot be read: {outcome.error!r}") from outcome.error
    if outcome.error is not None:
        raise outcome.error
    result: T = outcome.value
    return result


class Connection:
    """The client of one remote repository, and the queue in which its unacknowledged writes are."""

    def __init__(self, run: Any) -> None:
        self._run, self._client = run, run.repo._client
        self._queue = self._client.get_queue()
        self._finalizers: list[tuple[int, Any]] = []
        self._take_finalizers()

    def settle(self, patience: float) -> None:
        """Return when the server has acknowledged everything; raise where it makes no progress for `patience` seconds.

        Raises:
            BackendUnavailable: the server is gone, hangs, or refused something: then Aim's worker thread ends.
        """
        tasks = self._queue._queue
        left, deadline = float("inf"), 0.0
        with tasks.all_tasks_done:
            while tasks.unfinished_tasks:
                if tasks.unfinished_tasks < left:
                    left, deadline = tasks.unfinished_tasks, time.monotonic() + patience
                if time.monotonic() >= deadline or not self._queue._thread.is_alive():
                    raise BackendUnavailable("aim: the server does not acknowledge what is sent to it")
                tasks.all_tasks_done.wait(_POLL)

    def end(self) -> None:
        """Close everything that the client holds, in Aim's own order."""
        self._take_finalizers()
        for _, finalizer in sorted(self._finalizers, key=lambda one: -one[0]):
            finalizer()  # while the run keeps the objects alive: later each prints a KeyError
        self._run.close()
        self._end_worker()

    def abandon(self) -> None:
        """Let go without a word to the server: whatever Aim would do at the end waits for it."""
        self._take_finalizers()
        for _, finalizer in self._finalizers:
            finalizer.detach()
        self._client._heartbeat_sender._shutdown = True
        self._end_worker()
        if self._client._ws is not None:
            with contextlib.suppress(OSError):  # closed already
                self._client._ws.socket.shutdown(socket.SHUT_RDWR)
        # The queue takes nothing any more, so that these two end without a server.
        if self._run._system_resource_tracker is not None:
            self._run._system_resource_tracker.stop()
        self._run._checkins.close()

    def _end_worker(self) -> None:
        self._queue._shutdown = True
        # It waits for a task without a deadline: one more lets it see that it is over.
        self._queue._queue.put((lambda nothing: None, ((),)))

    def _take_finalizers(self) -> None:
        """Keep from Aim's exit hook what waits for this server: where it is gone, the program would never end."""
        from aim.ext.cleanup import AutoClean

        for owner, (priority, finalizer) in list(AutoClean._finalizers.items()):
            resources = getattr(finalizer.peek()[1], "__self__", None) if finalizer.alive else None
            clients = (getattr(resources, name, None) for name in ("rpc_client", "_client"))
            if getattr(resources, "repo", None) is self._run.repo or any(one is self._client for one in clients):
                self._finalizers.append((priority, finalizer))
                del AutoClean._finalizers[owner]
