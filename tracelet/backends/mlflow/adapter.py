"""MLflow: write scalars and parameters with `MlflowClient.log_batch`, and other records as artifacts of the run."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tracelet.backends.base import Backend, Batch, Status, Written
from tracelet.backends.capabilities import NativeRun, Probe, Probing
from tracelet.backends.mlflow import credentials
from tracelet.backends.mlflow.batch import BatchWriter
from tracelet.backends.mlflow.config import MlflowConfig
from tracelet.backends.mlflow.errors import translated
from tracelet.backends.mlflow.fluent import Fluent
from tracelet.backends.mlflow.probe import probe
from tracelet.backends.mlflow.requests import Access
from tracelet.backends.mlflow.run import Target, connect
from tracelet.backends.mlflow.store import check, resolve
from tracelet.errors import BackendUnavailable
from tracelet.filesystem import make_private
from tracelet.records import (
    Alert,
    Artifact,
    Audio,
    Embedding,
    Graph,
    Histogram,
    Image,
    Layout,
    Mesh,
    Params,
    PRCurve,
    RawSummary,
    Record,
    RunInfo,
    Scalar,
    Summary,
    Table,
    Tags,
    Tensor,
    Text,
    Video,
)
from tracelet.redaction import redacted_url

__all__ = ["MlflowBackend", "MlflowConfig"]

_STAGE = "mlflow-upload"

# `Stage.put` and `BatchWriter.send` write each kind.
_SHOWN_AS: dict[type[Record], str] = {
    Scalar: "a metric",
    Params: "a parameter; exactly in `tracelet/params.json`",
    Histogram: "an image in the image view; the exact buckets under `tracelet/histogram`",
    Image: "the image view",
    Text: "a file under `tracelet/text`",
    Table: "the table view",
    PRCurve: "an image in the image view; the exact rows under `tracelet/pr_curve`",
    Artifact: "an artifact",
    Summary: "numbers as metrics `summary/<name>`, texts as tags; exactly in `tracelet/summary.json`",
    Tags: "tags of the run",
    Alert: "the tag `tracelet.alert`, and a file under `tracelet/alert`",
    **dict.fromkeys(
        (Video, Audio, Tensor, Mesh, Embedding, Graph, Layout, RawSummary), "files under `tracelet/<kind>`"
    ),
}


class MlflowBackend(Backend, NativeRun, Probing):
    """Write records to one MLflow run. Records are in the store when `write` returns, so a kill loses none."""

    name: ClassVar[str] = "mlflow"
    Config = MlflowConfig
    accepts = _SHOWN_AS
    telemetry_off_env: ClassVar[Mapping[str, str]] = {"MLFLOW_DISABLE_TELEMETRY": "true"}

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._store = resolve(self.config)
        self._access = Access(self._store.uri, self.config)
        self._secrets = tuple(self.config.secrets())
        self._target: Target | None = None
        self._writer: BatchWriter | None = None
        self._fluent: Fluent | None = None
        self._folder = Path()

    def open(self, run: RunInfo) -> int | None:
        """Use the program's own active run if there is one; otherwise start or resume the run for `run.run_id`."""
        check(self._store)
        self._folder = Path(run.folder) / _STAGE
        with contextlib.ExitStack() as undo, translated(self._secrets, retry_after=self._access.retry_after):
            self._access.open()
            undo.callback(self._access.close)
            self._target, self._writer = self._access.call(lambda: self._connect(run))
            undo.pop_all()
        # A different run than before needs all records. Records that it already has change nothing.
        return None if self._target.known else 0

    def _connect(self, run: RunInfo) -> tuple[Target, BatchWriter]:
        target = connect(self._store, run, self.config)
        return target, BatchWriter(target, self._access, self._secrets)

    def write(self, batch: Batch) -> Written | None:
        """Write the records. If a point or file is written again, MLflow stores no second copy."""
        with self._stage() as folder:
            return self._open_writer.send(batch, folder)

    @property
    def _open_writer(self) -> BatchWriter:
        if self._writer is None:
            raise BackendUnavailable("mlflow: the run is not open")
        return self._writer

    @contextlib.contextmanager
    def _stage(self) -> Iterator[Path]:
        """Create an empty folder beside the spool, so that its files can be hard-linked."""
        with translated():
            shutil.rmtree(self._folder, ignore_errors=True)
            make_private(self._folder)
        try:
            yield self._folder
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def close(self, status: Status, exit_code: int) -> None:
        """End the run with `status` if tracelet started it. The program's own run stays active."""
        if self._target is None:
            return
        self.detach()
        target = self._target
        with translated(self._secrets):
            self._access.call(lambda: target.end(status, self.run_ended))
        self._target = self._writer = None
        self._access.close()

    def attach(self) -> None:
        """Make the run active for this thread's `mlflow.log_...` calls."""
        if self._target is None:
            return
        fluent = Fluent(self._store.uri, self._target, self._access)
        with translated(self._secrets):
            fluent.attach()
        self._fluent = fluent

    def detach(self) -> None:
        fluent, self._fluent = self._fluent, None
        if fluent is not None:
            with translated(self._secrets):
                fluent.detach()

    def secrets(self) -> Iterable[str]:
        return credentials.secrets(self.config, self._store.uri)

    @property
    def native(self) -> Any:
        """The `mlflow.entities.Run`, as read by `open`."""
        return None if self._target is None else self._target.run

    @property
    def url(self) -> str | None:
        """The run's page on a server; for a database, the argument of `mlflow ui --backend-store-uri`."""
        if self._target is None:
            return None
        uri = redacted_url(self._store.uri).replace("***@", "")
        return (
            f"{uri}/#/experiments/{self._target.experiment_id}/runs/{self._target.id}" if self._store.is_http else uri
        )

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Check if a run can be started now."""
        config = config or MlflowConfig()
        return probe(resolve(config), config)
