"""The registry: a backend's name to its class, and the pip line that installs its vendor."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tracelet.backends.base import Backend
from tracelet.errors import ConfigurationError, MissingDependency, UnknownBackend
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
    """
    if name in _registered:
        return _registered[name]
    if name in _BUILTIN:
        module, _, attribute = _BUILTIN[name].target.partition(":")
        found: type[Backend] = getattr(importlib.import_module(module), attribute)
        return found
    for point in _entry_points():
        if point.name == name:
            loaded: type[Backend] = point.load()
            return loaded
    raise UnknownBackend(f"unknown backend {name!r}. Known backends: {', '.join(known_backends())}")


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


def offline_store(name: str, folder: Path) -> str | None:
    """`Backend.offline_store` by the backend's name; None for one that nobody knows here."""
    try:
        return backend_class(name).offline_store(folder)
    except UnknownBackend:
        return None


def kept_config(backend: Backend, secrets: Secrets) -> dict[str, Any]:
    """What the journal may hold of a backend's config: the keys it allows, without what is not set or secret."""
    found = {key: msgspec.to_builtins(value) for key, value in backend.remembered().items() if value is not None}
    return {key: value for key, value in found.items() if not secrets.holds(value)}


def configured(cls: type[Backend], config: Mapping[str, Any]) -> Backend:
    """A backend with its `config` checked.

    Raises:
        ConfigurationError: an unknown key, or a value of the wrong type.
    """
    known = cls.Config.__struct_fields__
    unknown = sorted(set(config) - set(known))
    if unknown:
        listed = ", ".join(known) or "none"
        raise ConfigurationError(f"config: backend {cls.name!r} does not know {unknown[0]!r}. Keys it knows: {listed}")
    try:
        return cls(msgspec.convert(dict(config), cls.Config))
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"config of backend {cls.name!r}: {error}") from error
