"""The registry: a backend's name to its class, and the pip line that installs its vendor."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tracelet.backends import filters
from tracelet.backends.addresses import redacted
from tracelet.backends.base import Backend
from tracelet.errors import ConfigurationError, MissingDependency, UnknownBackend, meant_or_known
from tracelet.guard import translated
from tracelet.redaction import Secrets

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "tracelet.backends"


class _Entry(NamedTuple):
    target: str
    package: str | None = None
    oldest: str = "0"
    """The lowest release that is admitted, as in the extra of pyproject.toml."""


_BUILTIN = {
    "aim": _Entry("tracelet.backends.aim:AimBackend", "aim", "3.22"),
    "clearml": _Entry("tracelet.backends.clearml:ClearmlBackend", "clearml", "2.0.2"),
    "csv": _Entry("tracelet.backends.csvfile:CsvBackend"),
    "memory": _Entry("tracelet.backends.memory:MemoryBackend"),
    "mlflow": _Entry("tracelet.backends.mlflow:MlflowBackend", "mlflow", "3.7"),
    "wandb": _Entry("tracelet.backends.wandb:WandbBackend", "wandb", "0.30"),
}
_registered: dict[str, type[Backend]] = {}


def register_backend(name: str, cls: type[Backend]) -> None:
    """Make `cls` available as `backend=name`; a later registration of a name replaces the earlier.

    Raises:
        ConfigurationError: `cls` is not a `Backend` class.
    """
    if not (isinstance(cls, type) and issubclass(cls, Backend)):
        raise ConfigurationError(f"register_backend({name!r}, ...) takes a subclass of tracelet.Backend, not {cls!r}")
    _registered[name] = cls


def known_backends() -> list[str]:
    """The names that `backend=` takes here."""
    return sorted({*_BUILTIN, *_registered, *(point.name for point in _entry_points())})


def backend_class(name: str) -> type[Backend]:
    """The class behind a name; imports no vendor.

    Raises:
        UnknownBackend: nobody knows the name.
        ConfigurationError: another package brings it, and it cannot be loaded.
    """
    if name in _registered:
        return _registered[name]
    if name in _BUILTIN:
        module, _, attribute = _BUILTIN[name].target.partition(":")
        found: type[Backend] = getattr(importlib.import_module(module), attribute)
        return found
    for point in _entry_points():
        if point.name == name:
            return _loaded(point)
    raise UnknownBackend(f"unknown backend {name!r}. {meant_or_known(name, known_backends())}")


def _loaded(point: EntryPoint) -> type[Backend]:
    package = f"the package {point.dist.name!r}" if point.dist is not None else point.value

    def words(error: Exception) -> ConfigurationError:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        return ConfigurationError(f"backend {point.name!r} of {package} cannot be loaded: {told}")

    found: Any = translated(point.load, words)
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise words(TypeError(f"{point.value} is no subclass of tracelet.Backend"))
    return found


class Requirement(NamedTuple):
    """The vendor's package that a backend needs, None where it needs none, and the release of it that is here."""

    package: str | None
    installed: str | None


def requirement(name: str) -> Requirement:
    """Of one backend; imports no vendor. A package of no known release is installed as "unknown"."""
    entry = _BUILTIN.get(name)
    package = entry.package if entry is not None and name not in _registered else None
    if package is None or importlib.util.find_spec(package) is None:
        return Requirement(package, None)
    return Requirement(package, _version(package) or "unknown")


def is_registered(name: str) -> bool:
    """Whether a name was given its class by this program: other processes do not know it."""
    return name in _registered


def disable_telemetry(name: str) -> None:
    """Switch off the vendor's telemetry, and let go of the program's own run, in a process that only asks `probe`."""
    if name in _BUILTIN:  # the class of another may import its vendor at once
        cls = backend_class(name)
        os.environ.update(cls.telemetry_off_env)
        for variable in cls.parent_env:
            os.environ.pop(variable, None)


def check_installed(name: str) -> None:
    """Raise MissingDependency where the vendor's package of a backend is not there, or older than it may be."""
    entry = _BUILTIN.get(name)
    if entry is None or entry.package is None or name in _registered:
        return
    package = importlib.util.find_spec(entry.package)
    if package is None:
        raise MissingDependency(
            f"backend {name!r} needs the package {entry.package!r}. Install it with: pip install 'tracelet[{name}]'"
        )
    found = _version_beside(package) or _version(entry.package)
    if found is not None and _release(found) < _release(entry.oldest):
        raise MissingDependency(
            f"backend {name!r} needs {entry.package} {entry.oldest} or later, and {found} is installed. "
            f"Upgrade it with: pip install --upgrade 'tracelet[{name}]'"
        )


def _version_beside(package: ModuleSpec) -> str | None:
    """The release in the name of the one `.dist-info` beside a package: what reads others is slow to import."""
    if package.origin is None:
        return None
    folder = Path(package.origin).parent.parent
    found = [path.stem for path in folder.glob(f"{package.name}-*.dist-info")]
    return found[0].removeprefix(f"{package.name}-") if len(found) == 1 else None


def _version(package: str) -> str | None:
    """The installed release of a vendor's package; None where it was not installed as a distribution."""
    from importlib.metadata import PackageNotFoundError, version  # here, as below

    for distribution in (package, f"{package}-skinny"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


def _release(version: str) -> tuple[int, ...]:
    """The numbers a version begins with: 3.1.0rc1 counts as 3.1.0."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in numbers[0].split(".")) if numbers else ()


def _entry_points() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # here: it brings a fifth of what `import tracelet` may cost

    return entry_points(group=ENTRY_POINTS)


def vendor_of(obj: Any) -> str | None:
    """The built-in backend whose vendor's package an object comes from."""
    package = type(obj).__module__.partition(".")[0]
    return next((name for name, entry in _BUILTIN.items() if entry.package == package), None)


def pending_upload(name: str, folder: Path) -> str | None:
    """`Backend.pending_upload` by the backend's name; None for one that nobody knows here, or that cannot be loaded."""
    try:
        cls = backend_class(name)
    except ConfigurationError:
        return None
    return cls.pending_upload(folder)


def kept_config(backend: Backend, secrets: Secrets) -> dict[str, Any]:
    """What the journal may hold of a backend's config: the keys it allows, without what is not set or secret."""
    found = {key: msgspec.to_builtins(value) for key, value in backend.persistent_config().items() if value is not None}
    found = backend.filter.plain() | found
    return {key: value for key, value in found.items() if not secrets.holds(value) and not _has_credentials(value)}


def _has_credentials(value: Any) -> bool:
    """Also those that are too short to be looked for elsewhere."""
    return isinstance(value, str) and redacted(value) != value


def configured(cls: type[Backend], config: Mapping[str, Any]) -> Backend:
    """A backend with its `config` and its filter checked.

    Raises:
        ConfigurationError: an unknown key, or a value of the wrong type.
    """
    known = cls.Config.__struct_fields__
    unknown = sorted(set(config) - {*known, *filters.KEYS})
    if unknown:
        near = meant_or_known(str(unknown[0]), [*known, *filters.KEYS])
        raise ConfigurationError(f"config: backend {cls.name!r} does not know {unknown[0]!r}. {near}")
    try:
        backend = cls(msgspec.convert({key: value for key, value in config.items() if key in known}, cls.Config))
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"config of backend {cls.name!r}: {error}") from error
    return with_filter(backend, {key: value for key, value in config.items() if key not in known})


def with_filter(backend: Backend, config: Mapping[str, Any]) -> Backend:
    """A backend that is made already, with the filter that the keys of `config` describe.

    Raises:
        ConfigurationError: a key that is none of a filter's, or a value that cannot be meant.
    """
    others = sorted(set(config) - set(filters.KEYS))
    if others:
        raise ConfigurationError(
            f"config: backend {backend.name!r} is an object, which was given its {others[0]!r} when it was made. "
            f"Keys of a filter fit here: {', '.join(filters.KEYS)}"
        )
    backend.filter = filters.made(config, f"config of backend {backend.name!r}")
    return backend
