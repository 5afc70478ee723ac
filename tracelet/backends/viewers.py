"""Find the viewers of backends: the vendor's own web page for its own local store."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from tracelet import replacing
from tracelet.backends import VIEWERS, backend_class, check_installed, configured
from tracelet.backends.base import Backend
from tracelet.backends.capabilities import ViewerCommand, Viewing
from tracelet.errors import ConfigurationError, MissingDependency, UnknownBackend, suggest
from tracelet.records import RunInfo


def installed_viewer() -> str:
    """Return the first of `VIEWERS` whose package is installed.

    Raises:
        MissingDependency: none is.
    """
    for name in VIEWERS:
        with contextlib.suppress(MissingDependency):
            check_viewer(name)
            return name
    raise MissingDependency("no viewer is installed. Install one with: pip install 'tracelet[view]'")


def check_viewer(name: str) -> None:
    """Check that a backend has a viewer, and that it is installed.

    Raises:
        ConfigurationError: the name is unknown, or the backend has no viewer.
        MissingDependency: its package is missing or too old.
    """
    cls = _viewing(name)
    check_installed(name)
    if replacing.find_installed(cls.view_package) is None:
        raise MissingDependency(f"the viewer {name!r} needs the package {cls.view_package!r}: pip install {name}")


def viewer_backend(name: str, store: Path, run: RunInfo) -> Backend:
    """Return a backend that delivers a run to the viewer's folder of stores."""
    config: dict[str, Any] = _viewing(name).view_config(store, run)
    return configured(backend_class(name), config)


def viewer_command(name: str, store: Path, host: str, port: int) -> ViewerCommand:
    """Return the command of a viewer, with its whole environment."""
    command = _viewing(name).view_command(store, host, port)
    own = {key: value for key, value in os.environ.items() if not re.match(command.without, key)}
    return ViewerCommand(command.arguments, {**own, **command.env})


def _viewing(name: str) -> type[Viewing]:
    try:
        cls = backend_class(name)
    except UnknownBackend:
        raise ConfigurationError(f"unknown viewer {name!r}. {suggest(name, VIEWERS)}") from None
    if not issubclass(cls, Viewing):
        raise ConfigurationError(f"backend {name!r} has no viewer of its own. Use one of: {', '.join(VIEWERS)}")
    return cls
