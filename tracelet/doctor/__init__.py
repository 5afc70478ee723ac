"""Check the environment: backends, writers, the run folder, and the settings with their sources.

Check each backend and writer in its own process, in parallel, with a timeout. No result contains a credential.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import msgspec

from tracelet import settings as settings_module
from tracelet.backends import WEBHOOK, backend_class, check_installed, is_registered, known_backends, requirement
from tracelet.capture.tensorboard.checksum import IS_COMPILED
from tracelet.capture.tensorboard.foreign_patches import OtherPatch, other_patches
from tracelet.doctor.child import about_backend
from tracelet.doctor.protocol import AboutBackend, AboutWriter, BackendAnswer, WriterAnswer, ask
from tracelet.errors import ConfigurationError, MissingDependency, UnknownBackend
from tracelet.filesystem import file_system, on_network
from tracelet.redaction import redacted_url
from tracelet.settings import Settings
from tracelet.version import __version__

__all__ = [
    "BackendFacts",
    "Diagnosis",
    "FolderFacts",
    "OtherPatch",
    "SettingFact",
    "WriterFacts",
    "examine",
    "examine_backend",
    "other_patches",
]

State = Literal["ok", "wrong", "missing", "not asked"]

_WRITERS = {"torch": "torch.utils.tensorboard.writer", "tensorboardX": "tensorboardX.writer"}
# More in parallel would wait for each other's imports instead of their servers.
_PARALLEL = 4
_MAX_TIMEOUT = 3600.0
_STARTUP_MODULES = ("sitecustomize", "usercustomize")


class SettingFact(msgspec.Struct, frozen=True, kw_only=True):
    """A setting. `origin` is a variable, the settings file, or "default". The value of a credential is "***"."""

    name: str
    value: Any
    origin: str


class FolderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The folder of the runs. `trouble` is the reason if it is not writable."""

    path: str
    exists: bool
    writable: bool
    trouble: str | None
    free: int | None
    """Bytes."""
    file_system: str
    """Type in the mount table; "" if there is no mount table."""
    network: bool


class WriterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A library's SummaryWriter. If `state` is "ok", an active run captures its calls."""

    name: str
    version: str | None
    state: State
    detail: str
    others: tuple[OtherPatch, ...] = ()
    """Patches of other tools, in a process that imported only this library."""


class BackendFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A backend. `asked` is true if the caller or the settings select it. State "not asked" means not checked."""

    name: str
    asked: bool
    state: State
    detail: str
    version: str | None = None
    """Version of the vendor's package."""
    reachable: bool | None = None
    signed_in: bool | None = None
    own_capture: str | None = None
    """The setting in this environment that makes the vendor capture TensorBoard itself."""
    places: dict[str, str] = {}
    """Maps each kind of record to its location in the vendor's interface."""
    filtered: tuple[str, ...] = ()
    """Unsupported kinds of record."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `examine`."""

    tracelet: str
    python: str
    platform: str
    settings: tuple[SettingFact, ...]
    settings_trouble: str | None
    folder: FolderFacts
    writers: tuple[WriterFacts, ...]
    tensorboard: str | None
    compiled_checksums: bool
    backends: tuple[BackendFacts, ...]
    at_every_start: tuple[str, ...]
    """Files that Python runs before every program. They may contain patches."""

    @property
    def problems(self) -> list[str]:
        """Describe each problem that affects a run. Ignore backends that are not selected."""
        problems = [self.settings_trouble] if self.settings_trouble else []
        if self.folder.trouble is not None:
            problems.append(f"{self.folder.path}: {self.folder.trouble}")
        problems += [f"{fact.name}: {fact.detail}" for fact in self.writers if fact.state == "wrong"]
        problems += [f"{fact.name}: {fact.detail}" for fact in self.backends if fact.asked and fact.state != "ok"]
        return problems


def examine(
    backends: Sequence[str] = (), *, timeout: float = 5.0, tell: Callable[[int, int], None] = lambda done, total: None
) -> Diagnosis:
    """Check everything, including the connections of the backends.

    Args:
        backends: Names; default: those of the settings, or all installed backends if the settings name none.
        timeout: Seconds until a backend's server must respond, at most an hour.
        tell: Called with the number of finished backends and writers, and the total.

    Raises:
        ConfigurationError: `timeout` is not positive, or above an hour.
    """
    _check(timeout)
    loaded, origins, trouble = _settings()
    alerts = [] if backends or loaded.alert_webhook is None else [WEBHOOK]
    selected = list(dict.fromkeys([*(backends or loaded.backend), *alerts]))
    with ThreadPoolExecutor(max(_PARALLEL, os.cpu_count() or 1), thread_name_prefix="tracelet-doctor") as pool:
        writers = [pool.submit(_writer, name, module, timeout) for name, module in _WRITERS.items()]
        names = [*selected, *(name for name in known_backends() if name not in selected)]
        checks = [pool.submit(_backend, name, selected, loaded, timeout) for name in names]
        futures: list[Future[Any]] = [*writers, *checks]
        for done, _ in enumerate(as_completed(futures), 1):
            tell(done, len(futures))
        return Diagnosis(
            tracelet=__version__,
            python=platform.python_version(),
            platform=platform.platform(),
            settings=tuple(_fact(name, getattr(loaded, name), origin) for name, origin in origins.items()),
            settings_trouble=trouble,
            folder=_folder(Path(loaded.dir).absolute()),
            writers=tuple(writer.result() for writer in writers),
            tensorboard=_version("tensorboard"),
            compiled_checksums=IS_COMPILED,
            backends=tuple(check.result() for check in checks),
            at_every_start=tuple(filter(None, map(_file_of, _STARTUP_MODULES))),
        )


def examine_backend(name: str, *, timeout: float = 5.0) -> BackendFacts:
    """Check one backend like `examine`, with the same errors."""
    _check(timeout)
    return _backend(name, [name], _settings()[0], timeout)


def _check(timeout: float) -> None:
    if not 0 < timeout <= _MAX_TIMEOUT:
        raise ConfigurationError(f"timeout must be above 0 and at most {_MAX_TIMEOUT:g} seconds, got {timeout!r}")


def _settings() -> tuple[Settings, dict[str, str], str | None]:
    """Return the settings, their origins, and the error if they are invalid. Then the defaults apply."""
    try:
        return settings_module.load({}), settings_module.origins(), None
    except ConfigurationError as error:
        return Settings(), dict.fromkeys(Settings.__struct_fields__, "default"), str(error)


def _fact(name: str, value: Any, origin: str) -> SettingFact:
    if name in settings_module.CREDENTIALS and value is not None:
        value = "***"
    if name == "backend_url" and value is not None:
        value = redacted_url(value)
    return SettingFact(name=name, value=value, origin=origin)


def _folder(path: Path) -> FolderFacts:
    """Check the folder, or its closest existing parent, by writing an unnamed temporary file."""
    existing, trouble, free = None, None, None
    try:
        existing = next(filter(_exists, (path, *path.parents)))
        free = shutil.disk_usage(existing).free
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"tracelet")
            file.flush()
    except (OSError, ValueError) as error:  # ValueError: an invalid name
        trouble = f"cannot be written: {getattr(error, 'strerror', None) or error}"
    return FolderFacts(
        path=str(path),
        exists=existing == path and path.is_dir(),
        writable=trouble is None,
        trouble=trouble,
        free=free,
        file_system="" if existing is None else file_system(existing),
        network=existing is not None and on_network(existing),
    )


def _exists(path: Path) -> bool:
    """Return True if `path` exists.

    Unlike `Path.exists` in some releases of Python, raise if a folder is not accessible or a name is too long.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _writer(name: str, module: str, timeout: float) -> WriterFacts:
    if importlib.util.find_spec(name) is None:
        return WriterFacts(name=name, version=None, state="missing", detail="not installed")
    try:
        with tempfile.TemporaryDirectory() as folder:
            answer = ask(AboutWriter(module=module, folder=folder), WriterAnswer, timeout)
    except OSError as error:
        answer = WriterAnswer(ok=False, detail=f"cannot create a temporary folder: {error}")
    return WriterFacts(
        name=name,
        version=_version(name) or "unknown",
        state="ok" if answer.ok else "wrong",
        detail=answer.detail,
        others=answer.others,
    )


def _backend(name: str, selected: Sequence[str], loaded: Settings, timeout: float) -> BackendFacts:
    facts = BackendFacts(name=name, asked=name in selected, state="not asked", detail="")
    if name not in known_backends():
        try:
            backend_class(name)
        except UnknownBackend as error:
            return msgspec.structs.replace(facts, state="wrong", detail=str(error))
    package = requirement(name)
    facts = msgspec.structs.replace(facts, version=package.installed)
    try:
        check_installed(name)
    except MissingDependency as error:
        state: State = "missing" if package.installed is None else "wrong"
        return msgspec.structs.replace(facts, state=state, detail=str(error))
    if selected and name not in selected:
        return facts
    shared = {"api_key": loaded.api_key, "backend_url": loaded.backend_url} if {name} == {*selected} - {WEBHOOK} else {}
    config = {key: value for key, value in shared.items() if value is not None}
    question = AboutBackend(name=name, package=package.package, config=config, timeout=timeout)
    answer = about_backend(question) if is_registered(name) else ask(question, BackendAnswer, timeout)
    return msgspec.structs.replace(
        facts,
        state="ok" if answer.ok else "wrong",
        detail=answer.detail,
        reachable=answer.reachable,
        signed_in=answer.signed_in,
        own_capture=answer.own_capture,
        places=answer.places,
        filtered=answer.filtered,
    )


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _file_of(module: str) -> str | None:
    return getattr(sys.modules.get(module), "__file__", None)
