"""Define the exceptions of the facade, by the names that programs catch."""

from __future__ import annotations


class Error(Exception):
    """Base class of the facade's exceptions."""


class CommError(Error):
    """A run or an artifact cannot be found or read."""


class AuthenticationError(CommError):
    """A credential is missing or invalid."""


class UsageError(Error):
    """A call has invalid arguments, or comes at the wrong time."""


class UnsupportedError(UsageError, NotImplementedError):
    """The call needs wandb's server. The message names the alternative."""


class ConfigError(Error):
    """A value of the config must not change."""


class ArtifactNotLoggedError(Error):
    """The artifact must be logged before this call."""


class ArtifactFinalizedError(Error):
    """A logged artifact cannot change."""
