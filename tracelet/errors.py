"""Define the exceptions: user errors, and the two errors that a backend may raise."""

from __future__ import annotations

from collections.abc import Iterable


class TraceletError(Exception):
    """Base class of every exception that tracelet raises on purpose."""


class ConfigurationError(TraceletError, ValueError):
    """An argument, environment variable, settings file or `config` key is invalid."""


class UnknownBackend(ConfigurationError):
    """No backend is registered under this name."""


class UntrustedServer(ConfigurationError):
    """A journal names a server that this user has not configured."""


class MissingDependency(TraceletError, ImportError):
    """A backend's package is not installed. The message contains the pip command that installs it."""


class RunNotFound(TraceletError, LookupError):
    """No run folder exists for this run id."""


class RunInUse(TraceletError, RuntimeError):
    """Another live process is writing this run's journal."""


class NativeUnavailable(TraceletError, RuntimeError):
    """A vendor's run object is not available because `delivery="process"` keeps it in another process."""


class ArtifactError(TraceletError, ValueError):
    """`log_artifact` got an object or a path that it cannot store."""


class JournalError(TraceletError, OSError):
    """The journal file cannot be read or written at the moment."""


class BackendError(TraceletError):
    """Base class of the two errors that a backend may raise.

    Any other exception is a defect of the backend. The batch is retried, as after `BackendUnavailable`. If a part of
    the batch is written, `write` returns the error instead (`Written`).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BackendUnavailable(BackendError):
    """The vendor is temporarily unavailable. The same batch is retried later.

    `retry_after` is the minimum delay in seconds, if the vendor's server sent one (HTTP 429, 503). With `reopen`,
    `open` is called again first: the store lost records, and `open` returns the last that it has.
    """

    def __init__(self, reason: str, *, retry_after: float | None = None, reopen: bool = False) -> None:
        super().__init__(reason)
        self.retry_after, self.reopen = retry_after, reopen


class RunNotCreated(BackendUnavailable):
    """The vendor's run is shared by several ranks, and rank 0 has not created it yet. `open` is called again soon."""


class RecordRejected(BackendError):
    """The vendor will never accept a record.

    In `Written`, it means the record right after the written ones. Raised by `write`, it means one of the batch;
    delivery halves the batch until one record remains.
    """


def suggest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return the end of an error about an unknown word: the closest known name, or else all known names.

    `prefix` is printed before each name but not compared: a shared prefix makes all names look similar.
    """
    from difflib import get_close_matches  # imported here to keep `import tracelet` fast

    names = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), names, 1)
    if near:
        return f"Did you mean {prefix}{names[near[0]]}?"
    return f"Known: {', '.join(prefix + name for name in names.values()) or 'none'}"
