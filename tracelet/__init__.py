"""Keep your TensorBoard code, add one line, and send everything it logs to any tracking backend."""

from tracelet.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracelet.api import get_active_experiment, start_logging, stop_logging
    from tracelet.backends import known_backends, register_backend
    from tracelet.backends.base import Backend
    from tracelet.decorators import track
    from tracelet.distributed.launchers import get_distributed_info
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
    from tracelet.runs.reading import list_runs, open_run
    from tracelet.settings import context

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
    "context",
    "get_active_experiment",
    "get_distributed_info",
    "known_backends",
    "list_runs",
    "open_run",
    "register_backend",
    "start_logging",
    "stop_logging",
    "track",
]

if not TYPE_CHECKING:
    # Import each name at its first use: `tracelet run` starts a program without any of them.
    from importlib import import_module as _import

    _MODULES = (
        *("errors", "settings", "backends.base", "backends", "distributed.launchers", "experiment"),
        *("api", "decorators", "runs.reading"),
    )

    def __getattr__(name):
        if name in __all__:
            for module in _MODULES:
                value = getattr(_import(f"tracelet.{module}"), name, None)
                if value is not None:
                    globals()[name] = value
                    return value
        raise AttributeError(f"module 'tracelet' has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
