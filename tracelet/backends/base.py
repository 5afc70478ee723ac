"""What a backend is: one vendor behind five verbs, without threads, retries, journal or siblings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, overload

import msgspec

from tracelet.backends.filters import Filter
from tracelet.records import KINDS, Record, RunInfo

Status: TypeAlias = Literal["finished", "failed", "killed"]


class Batch(Sequence[Record]):
    """Records in the order of the program; `last` is the sequence number that the vendor holds once it has them all."""

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
    """The `config` of a backend that has nothing to configure."""


class Probe(msgspec.Struct, frozen=True):
    """Whether a backend could work here: `ok`, and one sentence that says why or why not.

    `reachable` and `signed_in` are None where that does not matter (a folder), or is not known (a server that is
    silent).
    """

    ok: bool
    detail: str
    reachable: bool | None = None
    signed_in: bool | None = None


class Backend:
    """Base class of every backend; `name`, `open` and `write` are what a subclass must bring.

    All methods but `attach` and `detach` are called from one thread, the backend's own delivery. `open` is called
    again after it raised `BackendUnavailable`. Files come as `records.File` with `path` filled in; they must not be
    changed, and they stay where they are as long as the run's folder does.

    Only `BackendUnavailable` and `RecordRejected` may leave a method; see `tracelet.errors`.
    """

    name: ClassVar[str]
    accepts: ClassVar[tuple[type[Record], ...]] = KINDS
    """Kinds of record that the vendor has a place for; others are counted as filtered."""
    shown_as: ClassVar[Mapping[type[Record], str]] = {}
    """Where a person finds each kind at the vendor, in a few words; told by `tracelet doctor`."""
    Config: ClassVar[type[msgspec.Struct]] = NoConfig
    """The keys of `config` that this backend knows, with their types: a keyword-only `msgspec.Struct`."""
    persistent_keys: ClassVar[tuple[str, ...]] = ()
    """Keys of `config` that the journal may hold, so that a later delivery needs no `config`; never a credential."""
    filter: Filter = Filter()
    """What its delivery keeps back, by the keys of `config` that every backend has."""

    parent_env: ClassVar[tuple[str, ...]] = ()
    """Environment variables by which the vendor ties a child process to the program's own run. A delivery process,
    which has a run of its own, is started without them."""
    telemetry_off_env: ClassVar[Mapping[str, str]] = {}
    """Environment variables by which the vendor's telemetry is off. The process that only asks `probe` has them."""

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config
        self._written: int | None = None

    def open(self, run: RunInfo) -> None:
        """Connect to the vendor's run for `run.run_id`, or begin it."""
        raise NotImplementedError(f"{type(self).__name__}.open")

    def write(self, batch: Batch) -> None:
        """Hand the records over, in order."""
        raise NotImplementedError(f"{type(self).__name__}.write")

    def on_written(self, batch: Batch) -> None:
        """Called by the delivery after a `write` that took the whole batch."""
        self._written = batch.last

    def durable_seq(self) -> int | None:
        """The last sequence number that the vendor holds durably (a kill of this process would not lose it).

        Right after `open`: what an earlier process left in the vendor's store, where that can be asked, so that nothing
        is sent twice; what the store has lost since is sent again. None says nothing: the journal's own cursor holds.
        """
        return self._written

    def resume_after(self) -> int | None:
        """Right after `open`: the last sequence number that need not be written again.

        It exceeds `durable_seq` only if the vendor keeps an offline recording that its server does not have yet.
        """
        return self.durable_seq()

    @property
    def offline_reason(self) -> str | None:
        """While open: why records go to the vendor's own offline recording for now; None where they reach the vendor.

        What that recording holds is not confirmed until it was handed over.
        """
        return None

    @classmethod
    def pending_upload(cls, folder: Path) -> str | None:
        """Where a recording of the vendor's own lies that its server has not got yet, by the notes in the run's
        `folder`; None where none waits. Imports no vendor.
        """
        return None

    @classmethod
    def offline_seq(cls, folder: Path) -> int:
        """The last sequence number that stands in such recordings, or at the vendor; 0 where that is not known.

        With all of a run in them, a sync that cannot hand them over has nothing to open the backend for.
        """
        return 0

    def upload_offline(self, run: RunInfo, deadline: float) -> None:
        """Deliver that recording by the vendor's own means, before `deadline` (monotonic seconds).

        Called while the backend is not open. Does nothing where nothing waits.
        """

    def persistent_config(self) -> dict[str, Any]:
        """The values of `persistent_keys`. A path must be whole: the later process has another working directory."""
        return {key: getattr(self.config, key) for key in self.persistent_keys}

    def secrets(self) -> Iterable[str]:
        """The credentials in use, wherever they come from: no text of ours may hold one. Asked before and after
        `open`."""
        return ()

    def flush(self) -> None:
        """Make the vendor hold all that was written, as far as it can be told to."""

    def close(self, status: Status, exit_code: int) -> None:
        """End the vendor's run if it was begun here; afterwards everything written is held."""

    def attach(self) -> None:
        """In the thread of `start_logging`, after `open`: let the program's own vendor calls land in this run."""

    def detach(self) -> None:
        """In the thread of `stop_logging`: undo `attach`."""

    @property
    def native(self) -> Any:
        """The vendor's own run object, or None."""
        return None

    @property
    def url(self) -> str | None:
        """Where a person can look at the run."""
        return None

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Whether the vendor's package is installed, signed in and reachable; never prompts, answers within seconds.

        `config` is one of `Config`, or None for what the environment says.
        """
        return Probe(True, "needs nothing")

    @classmethod
    def native_capture(cls) -> str | None:
        """What in this environment switches on a capture of TensorBoard by the vendor itself; None where nothing does.
        The vendor's package is installed."""
        return None

    @classmethod
    def adopt(cls, obj: Any) -> AdoptedArtifact | None:
        """A vendor's artifact object as plain data; None where `obj` is not one of this vendor's."""
        return None


class AdoptedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """What `adopt` found in a vendor's artifact object: paths inside the artifact to local files, and its words."""

    name: str
    files: dict[str, str]
    type: str
    metadata: dict[str, Any] = {}
