"""The exceptions of wandb's API."""

from __future__ import annotations


class Error(Exception):
    """The base of all errors below."""

    def __init__(self, message: str = "", context: object = None) -> None:
        super().__init__(message)
        self.message, self.context = message, context


class CommError(Error):
    """Something to read was not found."""


class AuthenticationError(CommError):
    """Never raised here: nothing needs a key."""


class UsageError(Error):
    """A call is invalid, or comes at the wrong time."""


class NotInitialised(UsageError, RuntimeError):
    """A function of a run is called before `init`, or after `finish`."""


class UnsupportedError(UsageError, NotImplementedError):
    """A function needs wandb's server. The message says what to use instead."""


class ConfigError(Error):
    """A value of the configuration would change without `allow_val_change`."""


class ArtifactNotLoggedError(Error, AttributeError):
    """An artifact has to be logged first."""


class ArtifactFinalizedError(Error):
    """A logged artifact cannot be changed."""
