"""Whether what tracelet needs is here: backends, writers, the run folder, the settings and where each came from.

Backends and writers are asked in processes of their own, all at once, each within a deadline. Nothing of it holds a
credential.
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
from tracelet.backends import backend_class, check_installed, is_registered, known_backends, requirement
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
# More at once would wait for each other's imports, and not for their servers.
_AT_ONCE = 4
_LONGEST = 3600.0
_AT_EVERY_START = ("sitecustomize", "usercustomize")


class SettingFact(msgspec.Struct, frozen=True, kw_only=True):
    """`origin`: a variable's name, the settings file, or "default". A credential's value is "***"."""

    name: str
    value: Any
    origin: str


class FolderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Where run folders are made. `trouble`: why nothing can be written there."""

    path: str
    exists: bool
    writable: bool
    trouble: str | None
    free: int | None
    """Bytes."""
    file_system: str
    """As the mount table calls it; "" where there is none to ask."""
    network: bool


class WriterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A library's SummaryWriter: `state` "ok" means that what it is told arrives while a run is active."""

    name: str
    version: str | None
    state: State
    detail: str
    others: tuple[OtherPatch, ...] = ()
    """Who else listens there, in a process that has imported nothing but this library."""


class BackendFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One backend. `asked`: the caller, or the settings, want it; it was tried out unless `state` is "not asked"."""

    name: str
    asked: bool
    state: State
    detail: str
    version: str | None = None
    """Of the vendor's package."""
    reachable: bool | None = None
    signed_in: bool | None = None
    own_capture: str | None = None
    """What in this environment makes the vendor capture TensorBoard by itself."""
    places: dict[str, str] = {}
    """Kind of record -> where a person finds it at the vendor."""
    filtered: tuple[str, ...] = ()
    """Kinds of record that it has no place for."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What `examine` found."""

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
    """Files that Python runs before any program here; they may patch anything."""

    @property
    def problems(self) -> list[str]:
        """A sentence for each thing that a run would suffer from; a backend counts if it was asked for."""
        told = [self.settings_trouble] if self.settings_trouble else []
        if self.folder.trouble is not None:
            told.append(f"{self.folder.path}: {self.folder.trouble}")
        told += [f"{one.name}: {one.detail}" for one in self.writers if one.state == "wrong"]
        told += [f"{one.name}: {one.detail}" for one in self.backends if one.asked and one.state != "ok"]
        return told


def examine(
    backends: Sequence[str] = (), *, timeout: float = 5.0, tell: Callable[[int, int], None] = lambda done, total: None
) -> Diagnosis:
    """Look at everything, and try the backends out.

    Args:
        backends: Names; left out, those of the settings, and where these name none, every one that is installed.
        timeout: Seconds that a backend's server may take to answer; at most an hour.
        tell: Told how many of the backends and writers are done, and how many there are.

    Raises:
        ConfigurationError: `timeout` is not above 0, or more than an hour.
    """
    _check(timeout)
    told, origins, trouble = _settings()
    asked = list(dict.fromkeys(backends or told.backend))
    with ThreadPoolExecutor(max(_AT_ONCE, os.cpu_count() or 1), thread_name_prefix="tracelet-doctor") as pool:
        writers = [pool.submit(_writer, name, module, timeout) for name, module in _WRITERS.items()]
        names = [*asked, *(name for name in known_backends() if name not in asked)]
        tried = [pool.submit(_backend, name, asked, told, timeout) for name in names]
        all_of_them: list[Future[Any]] = [*writers, *tried]
        for done, _ in enumerate(as_completed(all_of_them), 1):
            tell(done, len(all_of_them))
        return Diagnosis(
            tracelet=__version__,
            python=platform.python_version(),
            platform=platform.platform(),
            settings=tuple(_fact(name, getattr(told, name), origin) for name, origin in origins.items()),
            settings_trouble=trouble,
            folder=_folder(Path(told.dir).absolute()),
            writers=tuple(one.result() for one in writers),
            tensorboard=_version("tensorboard"),
            compiled_checksums=IS_COMPILED,
            backends=tuple(one.result() for one in tried),
            at_every_start=tuple(filter(None, map(_file_of, _AT_EVERY_START))),
        )


def examine_backend(name: str, *, timeout: float = 5.0) -> BackendFacts:
    """One backend alone, tried out as `examine` does, with the same error."""
    _check(timeout)
    return _backend(name, [name], _settings()[0], timeout)


def _check(timeout: float) -> None:
    if not 0 < timeout <= _LONGEST:
        raise ConfigurationError(f"timeout {timeout!r}: give seconds above 0, and at most {_LONGEST:g}")


def _settings() -> tuple[Settings, dict[str, str], str | None]:
    """The settings, where each came from, and what is wrong with them: then the defaults hold here."""
    try:
        return settings_module.load({}), settings_module.origins(), None
    except ConfigurationError as error:
        return Settings(), dict.fromkeys(Settings.__struct_fields__, "default"), str(error)


def _fact(name: str, value: Any, origin: str) -> SettingFact:
    if name == "api_key" and value is not None:
        value = "***"
    if name == "backend_url" and value is not None:
        value = redacted_url(value)
    return SettingFact(name=name, value=value, origin=origin)


def _folder(path: Path) -> FolderFacts:
    """Tried with a file that has no name and leaves nothing; where the folder is yet to be made, in the one above."""
    there, trouble, free = None, None, None
    try:
        there = next(filter(_is_there, (path, *path.parents)))
        free = shutil.disk_usage(there).free
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"tracelet")
            file.flush()
    except (OSError, ValueError) as error:  # ValueError: a name that no file system takes
        trouble = f"cannot be written: {getattr(error, 'strerror', None) or error}"
    return FolderFacts(
        path=str(path),
        exists=there == path and path.is_dir(),
        writable=trouble is None,
        trouble=trouble,
        free=free,
        file_system="" if there is None else file_system(there),
        network=there is not None and on_network(there),
    )


def _is_there(path: Path) -> bool:
    """As `exists`, which in some releases of Python hides that a folder may not be entered, or a name is too long."""
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
        answer = WriterAnswer(ok=False, detail=f"there is no folder to try it in: {error}")
    return WriterFacts(
        name=name,
        version=_version(name) or "unknown",
        state="ok" if answer.ok else "wrong",
        detail=answer.detail,
        others=answer.others,
    )


def _backend(name: str, asked: Sequence[str], told: Settings, timeout: float) -> BackendFacts:
    facts = BackendFacts(name=name, asked=name in asked, state="not asked", detail="")
    if name not in known_backends():
        try:
            backend_class(name)
        except UnknownBackend as error:
            return msgspec.structs.replace(facts, state="wrong", detail=str(error))
    need = requirement(name)
    facts = msgspec.structs.replace(facts, version=need.installed)
    try:
        check_installed(name)
    except MissingDependency as error:
        state: State = "missing" if need.installed is None else "wrong"
        return msgspec.structs.replace(facts, state=state, detail=str(error))
    if asked and name not in asked:
        return facts
    shared = {"api_key": told.api_key, "backend_url": told.backend_url} if [name] == list(asked) else {}
    config = {key: value for key, value in shared.items() if value is not None}
    question = AboutBackend(name=name, package=need.package, config=config, timeout=timeout)
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
