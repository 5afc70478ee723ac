"""The interface of a backend, and guarded calls of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tracelet.guard import Guard, described, translated


class TrackerBackend(ABC):
    """Base class of a custom backend; see `register_backend`."""

    name: str = "base"

    @abstractmethod
    def log(self, metrics: dict[str, Any], step: int | None = None, commit: bool = True) -> None:
        """Log the values of one step."""

    @abstractmethod
    def log_config(self, config: dict[str, Any]) -> None:
        """Log hyper-parameters."""

    @abstractmethod
    def finish(self) -> None:
        """End the run."""

    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:  # noqa: B027
        """Log a table."""

    def log_image(self, key: str, image_path: Any, caption: str | None = None) -> None:  # noqa: B027
        """Log an image file."""

    def log_artifacts(self, artifacts: Mapping[str, Any]) -> None:  # noqa: B027
        """Log files and folders by their labels."""

    def watch(self, model: Any, **kwargs: Any) -> None:  # noqa: B027
        """Log gradients and parameters of a model."""


class Part(Protocol):
    """A part of a backend, such as its files. Two backends may share a part: a run for example."""

    name: str

    def call(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Call a method of `TrackerBackend`. Never raises."""


class _CallFailed(Exception):
    pass


class Caller:
    """Call third-party code, and log a failure once per backend, method and type of error."""

    def __init__(self) -> None:
        self._guard = Guard()

    def call(self, name: str, method: str, function: Callable[[], object]) -> None:
        try:
            translated(function, lambda error: _CallFailed(described(error)))
        except _CallFailed as failure:
            error = type(failure.__cause__).__name__
            self._guard.log_once(
                f"{name}.{method}: {error}", "Tracker backend %s.%s() failed: %s", name, method, failure
            )


class PartBackend(TrackerBackend):
    """A backend made of parts; each call goes to all of them."""

    parts: Sequence[Part] = ()

    def log(self, metrics: dict[str, Any], step: int | None = None, commit: bool = True) -> None:
        self._call("log", metrics, step=step, commit=commit)

    def log_config(self, config: dict[str, Any]) -> None:
        self._call("log_config", config)

    def finish(self) -> None:
        self._call("finish")

    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        self._call("log_table", key, columns, data)

    def log_image(self, key: str, image_path: Any, caption: str | None = None) -> None:
        self._call("log_image", key, image_path, caption)

    def log_artifacts(self, artifacts: Mapping[str, Any]) -> None:
        self._call("log_artifacts", artifacts)

    def watch(self, model: Any, **kwargs: Any) -> None:
        self._call("watch", model, **kwargs)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> None:
        for part in self.parts:
            part.call(method, *args, **kwargs)
