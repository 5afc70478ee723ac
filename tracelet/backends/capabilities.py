"""What only some backends can do: each inherits these classes beside `Backend`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tracelet.records import RunInfo


class NativeRun:
    """The vendor's own run object, for the program's own calls of the vendor."""

    @property
    def native(self) -> Any:
        """The vendor's run object; None if the backend is not open."""
        return None

    def attach(self) -> None:
        """Direct the program's own vendor calls to this run. Called after `open`, in the thread of `start_logging`."""

    def detach(self) -> None:
        """Undo `attach`. Called in the thread of `stop_logging`."""


class OfflineRecording:
    """The vendor's own recording of a run without its server.

    Records in it do not count as durable until it is uploaded, but are not written again: `open` counts them.
    """

    @property
    def offline_reason(self) -> str | None:
        """Why records go to the recording while the backend is open; None if they reach the vendor."""
        return None

    @classmethod
    def pending_upload(cls, folder: Path) -> str | None:
        """Return the path of a recording that is not uploaded yet, from the notes in the run's `folder`.

        None if there is none. Imports no vendor.
        """
        raise NotImplementedError(f"{cls.__name__}.pending_upload")

    @classmethod
    def offline_recording(cls, folder: Path) -> str | None:
        """Return the path of a recording as `pending_upload`, also if the user's settings forbid its upload."""
        return cls.pending_upload(folder)

    @classmethod
    def offline_seq(cls, folder: Path) -> int:
        """Return the last sequence number in such recordings or at the vendor; 0 if unknown.

        If they hold the whole run and cannot be uploaded, `sync` does not open the backend.
        """
        return 0

    def upload_offline(self, run: RunInfo, deadline: float) -> None:
        """Upload that recording with the vendor's own tools, before `deadline` (monotonic seconds).

        Called while the backend is closed. Do nothing if no recording is pending.
        """
        raise NotImplementedError(f"{type(self).__name__}.upload_offline")


class Probe(msgspec.Struct, frozen=True):
    """Whether a backend can work here. `detail` gives the reason in one sentence.

    `reachable` and `signed_in` are None if they do not apply (a folder), or are unknown (the server does not answer).
    """

    ok: bool
    detail: str
    reachable: bool | None = None
    signed_in: bool | None = None


class Probing:
    """A check before a run, and credentials beside those of `config`."""

    telemetry_off_env: ClassVar[Mapping[str, str]] = {}
    """Environment variables that disable the vendor's telemetry. They are set in a process that has no run."""

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Return whether the vendor's package is installed, signed in and reachable, within seconds. Never prompts.

        `config` is an instance of `Config`. If it is None, use the environment.
        """
        raise NotImplementedError(f"{cls.__name__}.probe")

    def secrets(self) -> Iterable[str]:
        """Return the credentials in use, whatever their source; they are removed from all records and messages.

        Called before and after `open`.
        """
        return ()


class ViewerCommand(msgspec.Struct, frozen=True):
    """A command that starts a vendor's viewer. It serves HTTP until it is ended."""

    arguments: tuple[str, ...]
    env: Mapping[str, str] = {}
    """Variables of its environment, beside those of this process."""
    without: str = "(?!)"
    """A pattern of the variables of this process that it must not see: they name other stores or servers."""


class Viewing:
    """A vendor with a local store, and a viewer of its own for it."""

    view_package: ClassVar[str]
    """The package that has the viewer."""

    @classmethod
    def view_config(cls, store: Path, run: RunInfo) -> dict[str, Any]:
        """Return the `config` with which a run is delivered to a folder of such stores. Nothing else is recorded."""
        raise NotImplementedError(f"{cls.__name__}.view_config")

    @classmethod
    def view_command(cls, store: Path, host: str, port: int) -> ViewerCommand:
        """Return the vendor's command that shows that folder, without telemetry. It opens no browser."""
        raise NotImplementedError(f"{cls.__name__}.view_command")


class Notifier:
    """Messages to people instead of a store: old ones are not sent, and they name the run's page elsewhere."""

    max_age: ClassVar[float]
    """Records older than this many seconds, when the delivery reads them, are counted as filtered."""
    find_page: Callable[[], str | None] = staticmethod(lambda: None)
    """Set by tracelet: returns the run's web page at the first other backend that has one."""


class ChildProcesses:
    """A vendor whose run is joined by child processes of the program."""

    parent_env: ClassVar[tuple[str, ...]] = ()
    """Environment variables that make the vendor attach a child process to the program's own run. They are removed
    from a delivery process, since it has its own run."""


class AdoptedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a vendor's artifact object. `files` maps paths inside the artifact to local files."""

    name: str
    files: dict[str, str]
    type: str
    metadata: dict[str, Any] = {}


class Adoption:
    """A vendor whose objects a program hands to tracelet, or that captures TensorBoard itself."""

    @classmethod
    def adopt(cls, obj: Any) -> AdoptedArtifact | None:
        """Return the data of a vendor's artifact object; None if `obj` does not belong to this vendor."""
        return None

    @classmethod
    def native_capture(cls) -> str | None:
        """Return the setting that makes the vendor itself capture TensorBoard; None if this environment has none.

        Called only if the vendor's package is installed.
        """
        return None
