"""The exception tree: what the user did wrong, and the two errors a backend may let out."""

from __future__ import annotations

from collections.abc import Iterable


class TraceletError(Exception):
    """Everything that tracelet raises on purpose."""


class ConfigurationError(TraceletError, ValueError):
    """An argument, environment variable, settings file or `config` key that tracelet cannot use."""


class UnknownBackend(ConfigurationError):
    """No backend is registered under this name."""


class MissingDependency(TraceletError, ImportError):
    """A backend's package is not installed; the message holds the pip line that installs it."""


class RunNotFound(TraceletError, LookupError):
    """No run folder answers to this run id."""


class RunInUse(TraceletError, RuntimeError):
    """Another live process writes this run's journal."""


class NativeUnavailable(TraceletError, RuntimeError):
    """A vendor's run object was asked for where the backends work in a process of their own."""


class ArtifactError(TraceletError, ValueError):
    """What was given to `log_artifact` cannot be stored under the path that was given."""


class JournalError(TraceletError, OSError):
    """The journal's file cannot be read or written just now."""


class BackendError(TraceletError):
    """The two errors that leave a backend; everything else that leaves one is a defect of that backend.

    `written` is the number of records at the start of the batch that the vendor already took, so that the
    delivery goes on after them instead of sending them twice.
    """

    def __init__(self, reason: str, *, written: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.written = written


class BackendUnavailable(BackendError):
    """The vendor cannot take records now; the same batch is offered again later.

    `retry_after` is the least number of seconds until then, where the vendor's server named one (HTTP 429, 503).
    """

    def __init__(self, reason: str, *, written: int = 0, retry_after: float | None = None) -> None:
        super().__init__(reason, written=written)
        self.retry_after = retry_after


class RecordRejected(BackendError):
    """The vendor will never take one record of the batch.

    `whole=False` (default): the record right after the `written` ones is the bad one. `whole=True`: the vendor
    refused the batch as one piece without saying which record; the delivery halves it until one is left.
    """

    def __init__(self, reason: str, *, written: int = 0, whole: bool = False) -> None:
        super().__init__(reason, written=written)
        self.whole = whole


def meant_or_known(word: str, known: Iterable[str], prefix: str = "") -> str:
    """How an error about an unknown word ends: with the one that is nearest, or else with all that are known.

    `prefix` is told before each, and not compared: what all names share makes none of them near.
    """
    from difflib import get_close_matches  # here: no start pays for it

    names = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), names, 1)
    if near:
        return f"Did you mean {prefix}{names[near[0]]}?"
    return f"Known: {', '.join(prefix + name for name in names.values()) or 'none'}"
