"""Find, check and configure backends by their names."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tracelet import replacing
from tracelet.backends import addresses, filters
from tracelet.backends.base import Backend
from tracelet.backends.capabilities import AdoptedArtifact, Adoption, ChildProcesses, OfflineRecording, Probe, Probing
from tracelet.backends.config import BackendConfig
from tracelet.errors import ConfigurationError, JournalError, MissingDependency, UnknownBackend, suggest
from tracelet.guard import translated
from tracelet.redaction import Secrets, passwords_in_url, redacted_url
from tracelet.settings import Settings

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "tracelet.backends"
WEBHOOK = "webhook"
"""The backend of the setting `alert_webhook`."""


class _Entry(NamedTuple):
    target: str
    package: str | None = None
    oldest: str = "0"
    """The lowest supported release, as in the extra of pyproject.toml."""


_BUILTIN = {
    "aim": _Entry("tracelet.backends.aim:AimBackend", "aim", "3.22"),
    "clearml": _Entry("tracelet.backends.clearml:ClearmlBackend", "clearml", "2.0.2"),
    "csv": _Entry("tracelet.backends.csvfile:CsvBackend"),
    "memory": _Entry("tracelet.backends.memory:MemoryBackend"),
    "mlflow": _Entry("tracelet.backends.mlflow:MlflowBackend", "mlflow", "3.7"),
    "tensorboard": _Entry("tracelet.backends.tensorboard:TensorBoardBackend"),
    "trackio": _Entry("tracelet.backends.trackio:TrackioBackend", "trackio", "0.43"),
    "wandb": _Entry("tracelet.backends.wandb:WandbBackend", "wandb", "0.30"),
    WEBHOOK: _Entry("tracelet.backends.webhook:WebhookBackend"),
}
VIEWERS = ("trackio", "tensorboard", "aim", "mlflow")
"""The backends with a viewer of their own (`viewers`), in the order of preference."""
_registered: dict[str, type[Backend]] = {}


def register_backend(name: str, cls: type[Backend]) -> None:
    """Make `cls` available as `backend=name`. A later registration of a name replaces the earlier.

    Raises:
        ConfigurationError: `cls` is not a `Backend` class.
    """
    if not (isinstance(cls, type) and issubclass(cls, Backend)):
        raise ConfigurationError(f"register_backend({name!r}, ...) needs a subclass of tracelet.Backend, got {cls!r}")
    _registered[name] = cls


def known_backends() -> list[str]:
    """Return the names that `backend=` accepts here."""
    return sorted({*_BUILTIN, *_registered, *(point.name for point in _entry_points())})


def backend_class(name: str) -> type[Backend]:
    """Return the class of a backend. Imports no vendor.

    Raises:
        UnknownBackend: the name is unknown.
        ConfigurationError: the name belongs to another package whose class cannot be loaded.
    """
    if name in _registered:
        return _registered[name]
    if name in _BUILTIN:
        module, _, attribute = _BUILTIN[name].target.partition(":")
        cls: type[Backend] = getattr(importlib.import_module(module), attribute)
        return cls
    for point in _entry_points():
        if point.name == name:
            return _loaded(point)
    raise UnknownBackend(f"unknown backend {name!r}. {suggest(name, known_backends())}")


def _loaded(point: EntryPoint) -> type[Backend]:
    package = f"the package {point.dist.name!r}" if point.dist is not None else point.value

    def load_error(error: Exception) -> ConfigurationError:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return ConfigurationError(f"backend {point.name!r} of {package} cannot be loaded: {reason}")

    cls: Any = translated(point.load, load_error)
    if not (isinstance(cls, type) and issubclass(cls, Backend)):
        raise load_error(TypeError(f"{point.value} is not a subclass of tracelet.Backend"))
    return cls


class Requirement(NamedTuple):
    """The vendor's package that a backend needs, and its installed release. Either may be None."""

    package: str | None
    installed: str | None


def requirement(name: str) -> Requirement:
    """Return the requirement of a backend. Imports no vendor. A package without a release counts as "unknown"."""
    entry = _BUILTIN.get(name)
    package = entry.package if entry is not None and name not in _registered else None
    if package is None or importlib.util.find_spec(package) is None:
        return Requirement(package, None)
    return Requirement(package, _version(package) or "unknown")


def is_registered(name: str) -> bool:
    """Return whether this program registered the name. Other processes cannot load such a backend."""
    return name in _registered


def disable_telemetry(name: str) -> None:
    """Disable the vendor's telemetry, and detach from the program's own run, in a process that has no run."""
    if name in _BUILTIN:  # loading another package's class may import its vendor
        cls = backend_class(name)
        os.environ.update(cls.telemetry_off_env if issubclass(cls, Probing) else {})
        for variable in parent_env([cls]):
            os.environ.pop(variable, None)


def parent_env(classes: Iterable[type[Backend]]) -> set[str]:
    """Return the environment variables that would make a vendor attach a child process to the program's own run."""
    return {name for cls in classes if issubclass(cls, ChildProcesses) for name in cls.parent_env}


def probe(backend: Backend) -> Probe:
    """Return whether a configured backend can work here."""
    return backend.probe(backend.config) if isinstance(backend, Probing) else Probe(True, "needs nothing")


def native_capture(cls: type[Backend]) -> str | None:
    """Return the setting that makes a backend's vendor capture TensorBoard itself; None if there is none."""
    return cls.native_capture() if issubclass(cls, Adoption) else None


def adopt(vendor: str, obj: Any) -> AdoptedArtifact | None:
    """Return the data of a vendor's artifact object; None if it is another object."""
    cls = backend_class(vendor)
    return cls.adopt(obj) if issubclass(cls, Adoption) else None


def is_replaced(name: str) -> bool:
    """Return True if `import` finds a facade of tracelet in this process instead of the backend's package."""
    entry = _BUILTIN.get(name)
    return entry is not None and entry.package is not None and replacing.is_replaced(entry.package)


def check_installed(name: str) -> None:
    """Check the vendor's package of a backend.

    Raises:
        MissingDependency: the package is missing, or older than the lowest supported release.
    """
    entry = _BUILTIN.get(name)
    if entry is None or entry.package is None or name in _registered:
        return
    package = replacing.find_installed(entry.package)
    if package is None:
        raise MissingDependency(
            f"backend {name!r} needs the package {entry.package!r}. Install it with: pip install 'tracelet[{name}]'"
        )
    installed = _version_beside(package) or _version(entry.package)
    if installed is not None and _release(installed) < _release(entry.oldest):
        raise MissingDependency(
            f"backend {name!r} needs {entry.package} {entry.oldest} or later, and {installed} is installed. "
            f"Upgrade it with: pip install --upgrade 'tracelet[{name}]'"
        )


def _version_beside(package: ModuleSpec) -> str | None:
    """Return the release from the name of the `.dist-info` beside a package: importlib.metadata is slow to import."""
    if package.origin is None:
        return None
    folder = Path(package.origin).parent.parent
    stems = [path.stem for path in folder.glob(f"{package.name}-*.dist-info")]
    return stems[0].removeprefix(f"{package.name}-") if len(stems) == 1 else None


def _version(package: str) -> str | None:
    """Return the installed release of a vendor's package; None if it was not installed as a distribution."""
    from importlib.metadata import PackageNotFoundError, version  # here, as below

    for distribution in (package, f"{package}-skinny"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


def _release(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: 3.1.0rc1 counts as 3.1.0."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in numbers[0].split(".")) if numbers else ()


def _entry_points() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # here: a fifth of the time that `import tracelet` may take

    return entry_points(group=ENTRY_POINTS)


def vendor_packages() -> frozenset[str]:
    """Return the packages of the built-in backends' vendors."""
    return frozenset(entry.package for entry in _BUILTIN.values() if entry.package is not None)


def vendor_of(obj: Any) -> str | None:
    """Return the built-in backend whose vendor defines the type of an object; None if there is none."""
    package = type(obj).__module__.partition(".")[0]
    return next((name for name, entry in _BUILTIN.items() if entry.package == package), None)


def pending_upload(name: str, folder: Path) -> str | None:
    """Return `Backend.pending_upload` of a backend; None if its name is unknown or its class cannot be loaded.

    Raises:
        JournalError: the backend's notes in `folder` cannot be read.
    """
    cls = _recorder(name)
    return None if cls is None else _from_notes(name, folder, cls.pending_upload)


def offline_recording(name: str, folder: Path) -> str | None:
    """Return `Backend.offline_recording` of a backend; None and errors as for `pending_upload`."""
    cls = _recorder(name)
    return None if cls is None else _from_notes(name, folder, cls.offline_recording)


def _from_notes(name: str, folder: Path, read: Callable[[Path], str | None]) -> str | None:
    return translated(
        lambda: read(folder),
        lambda error: JournalError(f"cannot read the notes of {name} in {folder}: {type(error).__name__}: {error}"),
    )


def _recorder(name: str) -> type[OfflineRecording] | None:
    try:
        cls = backend_class(name)
    except ConfigurationError:
        return None
    return cls if issubclass(cls, OfflineRecording) else None


def secrets_of(backend: Backend) -> set[str]:
    """Return the credentials that a backend may use, whatever their source."""
    configured = backend.config.secrets() if isinstance(backend.config, BackendConfig) else ()
    return {*configured, *(backend.secrets() if isinstance(backend, Probing) else ())}


def secrets_in_use(settings: Settings, backends: Sequence[Backend]) -> Secrets:
    """Return the secrets of a run: credentials in its settings, and those that its backends may use."""
    secrets = Secrets()
    secrets.add([settings.api_key, *passwords_in_url(settings.backend_url)])
    for backend in backends:
        secrets.add(secrets_of(backend))
    return secrets


WITHHELD = "withheld"
"""The key of the names that `journal_config` leaves out."""


def persistent_keys(cls: type[Backend]) -> tuple[str, ...]:
    """Return the keys of a backend's config that the journal may store."""
    return cls.Config.persistent_keys() if issubclass(cls.Config, BackendConfig) else ()


def journal_config(backend: Backend, secrets: Secrets) -> dict[str, Any]:
    """Return the keys of a backend's config that the journal may store, without unset and secret values.

    `WITHHELD` lists the keys of addresses that are left out: without them, a later sync would use another server.
    """
    persistent = backend.config.persistent() if isinstance(backend.config, BackendConfig) else {}
    values = {key: msgspec.to_builtins(value) for key, value in persistent.items() if value is not None}
    values = backend.filter.to_config() | values
    stored = {
        key: value for key, value in values.items() if not secrets.found_in(value) and not _has_credentials(value)
    }
    withheld = [key for key in values if key not in stored and _is_address(values[key])]
    return stored | {WITHHELD: withheld} if withheld else stored


def _is_address(value: Any) -> bool:
    return _has_credentials(value) or any(addresses.addresses_in(value))


def _has_credentials(value: Any) -> bool:
    """Return whether a value contains credentials, also ones too short for `Secrets`."""
    return isinstance(value, str) and redacted_url(value) != value


def configured(cls: type[Backend], config: Mapping[str, Any]) -> Backend:
    """Create a backend from its checked `config`, with its filter.

    Raises:
        ConfigurationError: a key is unknown, or a value has the wrong type.
    """
    known = cls.Config.__struct_fields__
    unknown = sorted(set(config) - {*known, *filters.KEYS})
    if unknown:
        hint = suggest_key(str(unknown[0]), [*known, *filters.KEYS])
        raise ConfigurationError(f"config: backend {cls.name!r} has no key {unknown[0]!r}. {hint}")
    try:
        backend = cls(msgspec.convert({key: value for key, value in config.items() if key in known}, cls.Config))
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"config of backend {cls.name!r}: {error}") from error
    return with_filter(backend, {key: value for key, value in config.items() if key not in known})


def suggest_key(key: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown key. In other libraries, `config` has the hyper-parameters."""
    hint = suggest(key, known)
    return f"{hint}{'' if hint.endswith('?') else '.'} To log hyper-parameters, use experiment.log_params({{...}})"


def with_filter(backend: Backend, config: Mapping[str, Any]) -> Backend:
    """Set the filter of an existing backend from the keys of `config`, and return the backend.

    Raises:
        ConfigurationError: a key does not belong to a filter, or a value is invalid.
    """
    others = sorted(set(config) - set(filters.KEYS))
    if others:
        raise ConfigurationError(
            f"config: backend {backend.name!r} is an object; pass {others[0]!r} to its constructor. "
            f"Only the keys of a filter are valid here: {', '.join(filters.KEYS)}"
        )
    backend.filter = filters.parse(config, f"config of backend {backend.name!r}")
    return backend
