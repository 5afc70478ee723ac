"""Keep every line of your TensorBoard code, add one, and have it all in any tracking backend."""

from tracelet.api import get_active_experiment, start_logging, stop_logging
from tracelet.backends import known_backends, register_backend
from tracelet.backends.base import Backend
from tracelet.errors import (
    ArtifactError,
    BackendUnavailable,
    ConfigurationError,
    JournalError,
    MissingDependency,
    NativeUnavailable,
    RecordRejected,
    RunInUse,
    RunNotFound,
    TraceletError,
    UnknownBackend,
)
from tracelet.experiment import Experiment
from tracelet.version import __version__

__all__ = [
    "ArtifactError",
    "Backend",
    "BackendUnavailable",
    "ConfigurationError",
    "Experiment",
    "JournalError",
    "MissingDependency",
    "NativeUnavailable",
    "RecordRejected",
    "RunInUse",
    "RunNotFound",
    "TraceletError",
    "UnknownBackend",
    "__version__",
    "get_active_experiment",
    "known_backends",
    "register_backend",
    "start_logging",
    "stop_logging",
]
