"""MLflow: scalars and parameters by `MlflowClient.log_batch`, everything else as artifacts of the run."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tracelet.backends.addresses import redacted
from tracelet.backends.base import Backend, Batch, Probe, Status
from tracelet.backends.mlflow import credentials
from tracelet.backends.mlflow.batch import BatchWriter
from tracelet.backends.mlflow.config import KEPT, MlflowConfig
from tracelet.backends.mlflow.errors import translated
from tracelet.backends.mlflow.fluent import Fluent
from tracelet.backends.mlflow.places import PLACES
from tracelet.backends.mlflow.probe import probe
from tracelet.backends.mlflow.requests import Access
from tracelet.backends.mlflow.run import Target, connect
from tracelet.backends.mlflow.store import absolute, check, look
from tracelet.errors import BackendUnavailable
from tracelet.records import RunInfo

__all__ = ["MlflowBackend", "MlflowConfig"]

_STAGE = "mlflow-upload"


class MlflowBackend(Backend):
    """Write records to one MLflow run. What `write` handed over is in its store: a kill costs nothing."""

    name: ClassVar[str] = "mlflow"
    Config = MlflowConfig
    persistent_keys = KEPT
    shown_as = PLACES
    telemetry_off_env: ClassVar[Mapping[str, str]] = {"MLFLOW_DISABLE_TELEMETRY": "true"}

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._place = look(self.config)
        self._access = Access(self._place.uri, self.config)
        self._secrets = self.config.secrets
        self._target: Target | None = None
        self._outbox: BatchWriter | None = None
        self._fluent: Fluent | None = None
        self._folder = Path()

    def persistent_config(self) -> dict[str, Any]:
        """With the store's own path, whatever the working directory is by then."""
        told = super().persistent_config()
        return told | {key: absolute(told[key]) for key in ("backend_url", "tracking_uri") if told[key]}

    def open(self, run: RunInfo) -> None:
        """Use the program's own active run; otherwise begin, or go on with, the run of `run.run_id`."""
        check(self._place)
        self._folder = Path(run.folder) / _STAGE
        with contextlib.ExitStack() as undo, translated(self._secrets, wait=self._access.wait):
            self._access.open()
            undo.callback(self._access.close)
            with self._access.impatient():
                self._target = connect(self._place, run, self.config)
                self._outbox = BatchWriter(self._target, self._access, self._secrets)
            undo.pop_all()
        # Another run than the one before has to be given everything; what it has of it changes nothing there.
        self._written = None if self._target.known else 0

    def write(self, batch: Batch) -> None:
        """Hand the records over. MLflow takes the same point and the same file again without a second copy."""
        with self._stage() as folder:
            self._to.send(batch, folder)

    @property
    def _to(self) -> BatchWriter:
        if self._outbox is None:
            raise BackendUnavailable("mlflow: the run is not open")
        return self._outbox

    @contextlib.contextmanager
    def _stage(self) -> Iterator[Path]:
        """An empty folder, beside the spool so that its files can be linked."""
        with translated():
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(mode=0o700, parents=True)
        try:
            yield self._folder
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def close(self, status: Status, exit_code: int) -> None:
        """End the run with `status` if it was begun here; the program's own goes on."""
        if self._target is None:
            return
        self.detach()
        with translated(self._secrets), self._access.impatient():
            self._target.end(status)
        self._target = self._outbox = None
        self._access.close()

    def attach(self) -> None:
        """Make the run the active one of this thread's `mlflow.log_...` calls."""
        if self._target is None:
            return
        fluent = Fluent(self._place.uri, self._target, self._access)
        with translated(self._secrets):
            fluent.attach()
        self._fluent = fluent

    def detach(self) -> None:
        fluent, self._fluent = self._fluent, None
        if fluent is not None:
            with translated(self._secrets):
                fluent.detach()

    def secrets(self) -> Iterable[str]:
        return credentials.secrets(self.config, self._place.uri)

    @property
    def native(self) -> Any:
        """The `mlflow.entities.Run`, as it was when it was opened."""
        return None if self._target is None else self._target.run

    @property
    def url(self) -> str | None:
        """The run's page on a server; of a database, the address that `mlflow ui --backend-store-uri` takes."""
        if self._target is None:
            return None
        uri = redacted(self._place.uri).replace("***@", "")
        return (
            f"{uri}/#/experiments/{self._target.experiment_id}/runs/{self._target.id}" if self._place.is_http else uri
        )

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Whether a run could be begun here and now."""
        config = config or MlflowConfig()
        return probe(look(config), config)
