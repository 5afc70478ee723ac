"""Base class of backends: one vendor, without threads, retries, journal or knowledge of other backends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, overload

import msgspec

from tracelet.backends.filters import Filter
from tracelet.records import KINDS, Record, RunInfo

Status: TypeAlias = Literal["finished", "failed", "killed"]


class Batch(Sequence[Record]):
    """Records in program order. `last` is the sequence number of the last record."""

    def __init__(self, records: Sequence[Record], last: int) -> None:
        self._records = records
        self.last = last

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        return self._records[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)


class NoConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `config` of a backend without settings."""


class Probe(msgspec.Struct, frozen=True):
    """Whether a backend can work here. `detail` gives the reason in one sentence.

    `reachable` and `signed_in` are None if they do not apply (a folder), or are unknown (the server does not answer).
    """

    ok: bool
    detail: str
    reachable: bool | None = None
    signed_in: bool | None = None


class Backend:
    """Base class of every backend. A subclass must define `name`, `open` and `write`.

    The backend's delivery thread calls all methods except `attach` and `detach`. It calls `open` again if `open` raised
    `BackendUnavailable`, or if `write` did with `reopen`. Files arrive as `records.File` with `path` set. They must not
    be changed, and they exist as long as the run's folder does.

    A method may raise only `BackendUnavailable` and `RecordRejected`; see `tracelet.errors`.
    """

    name: ClassVar[str]
    accepts: ClassVar[tuple[type[Record], ...]] = KINDS
    """Kinds of record that the vendor can store. Others are counted as filtered."""
    shown_as: ClassVar[Mapping[type[Record], str]] = {}
    """The location of each kind at the vendor, in a few words. Shown by `tracelet doctor`."""
    Config: ClassVar[type[msgspec.Struct]] = NoConfig
    """The keys of `config` for this backend, with their types: a keyword-only `msgspec.Struct`."""
    persistent_keys: ClassVar[tuple[str, ...]] = ()
    """Keys of `config` that the journal stores, so that a later delivery needs no `config`. Never a credential."""
    note_files: ClassVar[tuple[str, ...]] = ()
    """Names of the files that it writes beside the journal, for a later delivery. They are removed with the journal."""
    filter: Filter = Filter()
    """The filter of its delivery, from the keys of `config` that every backend has."""

    parent_env: ClassVar[tuple[str, ...]] = ()
    """Environment variables that make the vendor attach a child process to the program's own run. They are removed
    from a delivery process, since it has its own run."""
    telemetry_off_env: ClassVar[Mapping[str, str]] = {}
    """Environment variables that disable the vendor's telemetry. They are set in a process that only calls `probe`."""

    run_ended: float | None = None
    """The end of the run, in seconds since the epoch: long before `close` if the run is delivered later. Set before
    `close`."""

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config
        self._written: int | None = None

    def open(self, run: RunInfo) -> None:
        """Connect to the vendor's run for `run.run_id`; create it if it does not exist."""
        raise NotImplementedError(f"{type(self).__name__}.open")

    def write(self, batch: Batch) -> None:
        """Write the records, in order."""
        raise NotImplementedError(f"{type(self).__name__}.write")

    def on_written(self, batch: Batch) -> None:
        """Record that `write` accepted the whole batch. Called by the delivery thread."""
        self._written = batch.last

    def durable_seq(self) -> int | None:
        """Return the last sequence number that the vendor stores durably: it survives a kill of this process.

        Right after `open`, return the number that an earlier process reached, if the vendor's store can report it. Then
        no record is sent twice, and records that the store lost are sent again. If None, the journal's cursor is used.
        """
        return self._written

    def resume_after(self) -> int | None:
        """Return the last sequence number that need not be written again. Called right after `open`.

        It exceeds `durable_seq` only if the vendor has an offline recording that is not uploaded yet.
        """
        return self.durable_seq()

    @property
    def offline_reason(self) -> str | None:
        """Why records go to the vendor's offline recording while the backend is open; None if they reach the vendor.

        Records in that recording do not count as durable until it is uploaded.
        """
        return None

    @classmethod
    def pending_upload(cls, folder: Path) -> str | None:
        """Return the path of an offline recording that is not uploaded yet, from the notes in the run's `folder`.

        None if there is none. Imports no vendor.
        """
        return None

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

    def persistent_config(self) -> dict[str, Any]:
        """Return the values of `persistent_keys`. Paths must be absolute: the working directory may change."""
        return {key: getattr(self.config, key) for key in self.persistent_keys}

    def secrets(self) -> Iterable[str]:
        """Return the credentials in use, whatever their source; they are removed from all records and messages.

        Called before and after `open`.
        """
        return ()

    def flush(self) -> None:
        """Make all written records durable at the vendor, as far as it supports that."""

    def close(self, status: Status, exit_code: int) -> None:
        """End the vendor's run if this backend created it. Afterwards all written records are durable."""

    def attach(self) -> None:
        """Direct the program's own vendor calls to this run. Called after `open`, in the thread of `start_logging`."""

    def detach(self) -> None:
        """Undo `attach`. Called in the thread of `stop_logging`."""

    @property
    def native(self) -> Any:
        """The vendor's own run object, or None."""
        return None

    @property
    def url(self) -> str | None:
        """The address of the run for a browser, or its folder."""
        return None

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Return whether the vendor's package is installed, signed in and reachable, within seconds. Never prompts.

        `config` is an instance of `Config`. If it is None, use the environment.
        """
        return Probe(True, "needs nothing")

    @classmethod
    def native_capture(cls) -> str | None:
        """Return the setting that makes the vendor itself capture TensorBoard; None if this environment has none.

        Called only if the vendor's package is installed.
        """
        return None

    @classmethod
    def adopt(cls, obj: Any) -> AdoptedArtifact | None:
        """Return the data of a vendor's artifact object; None if `obj` does not belong to this vendor."""
        return None


class AdoptedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a vendor's artifact object. `files` maps paths inside the artifact to local files."""

    name: str
    files: dict[str, str]
    type: str
    metadata: dict[str, Any] = {}
