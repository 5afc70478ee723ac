"""MLflow: write scalars and parameters with `MlflowClient.log_batch`, and other records as artifacts of the run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tracelet import records as r
from tracelet.backends.base import Backend, Batch, Status, Written
from tracelet.backends.capabilities import NativeRun, Probe, Probing, ViewerCommand, Viewing
from tracelet.backends.mlflow.batch import BatchWriter
from tracelet.backends.mlflow.config import MlflowConfig, secrets_outside
from tracelet.backends.mlflow.connection import PROBE_TIMEOUT, Access, check, resolve
from tracelet.backends.mlflow.errors import is_auth_error, translated
from tracelet.backends.mlflow.host import Fluent
from tracelet.backends.mlflow.layout import EzpzLayout
from tracelet.backends.mlflow.run import Target, connect
from tracelet.errors import BackendUnavailable
from tracelet.redaction import redacted_url

__all__ = ["MlflowBackend", "MlflowConfig"]

_FIGURE = "a figure under `tracelet/{0}`, with the exact {1} in a JSON file"

# `Stage.put` and `BatchWriter` write each kind.
_SHOWN_AS: dict[type[r.Record], str] = {
    r.Scalar: "a metric",
    r.Params: "a parameter; exactly in `tracelet/params.json`",
    r.Histogram: _FIGURE.format("histogram", "buckets"),
    r.Image: "the image view",
    r.Text: "a file under `tracelet/text`",
    r.Table: "the table view",
    r.PRCurve: _FIGURE.format("pr_curve", "rows"),
    r.Artifact: "an artifact",
    r.Summary: "numbers as metrics `summary/<name>`, texts as tags; exactly in `tracelet/summary.json`",
    r.Tags: "tags of the run",
    r.Alert: "the tag `tracelet.alert`, and a file under `tracelet/alert`",
    **dict.fromkeys(
        (r.Video, r.Audio, r.Tensor, r.Mesh, r.Embedding, r.Graph, r.Layout, r.RawSummary),
        "files under `tracelet/<kind>`",
    ),
}


class MlflowBackend(Backend, NativeRun, Probing, Viewing):
    """Write records to one MLflow run. Records are in the store when `write` returns, so a kill loses none."""

    name: ClassVar[str] = "mlflow"
    Config = MlflowConfig
    accepts = _SHOWN_AS
    view_package = "mlflow"
    telemetry_off_env: ClassVar[Mapping[str, str]] = {"MLFLOW_DISABLE_TELEMETRY": "true"}

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._store = resolve(self.config)
        self._access = Access(self._store.uri, self.config)
        self._target: Target | None = None
        self._writer: BatchWriter | None = None
        self._fluent: Fluent | None = None
        self._layout = EzpzLayout() if self.config.layout == "ezpz" else None

    def open(self, run: r.RunInfo) -> int:
        """Use the program's own active run if there is one; otherwise start or resume the run for `run.run_id`.

        Return the number in the run's own tag; 0 for a new run, another one than before, or one without the tag.
        Records that it has already change nothing.
        """
        check(self._store)
        with contextlib.ExitStack() as undo, translated():
            self._access.open()
            undo.callback(self._access.close)
            self._target = self._access.call(lambda: connect(self._store, run, self.config))
            self._writer = BatchWriter(self._target, self._access, Path(run.folder) / "mlflow-upload")
            self._writer.has_table_files = self._layout is not None
            undo.pop_all()
        return self._writer.held

    def write(self, batch: Batch) -> Written | None:
        """Write the records. If a point or file is written again, MLflow stores no second copy."""
        if self._target is None or self._writer is None:
            raise BackendUnavailable("mlflow: the run is not open")
        return self._writer.write(batch if self._layout is None else self._layout.renamed(batch))

    def durable(self) -> int | None:
        """Return the number in the run's tag."""
        return None if self._writer is None else self._writer.held

    def close(self, status: Status, exit_code: int) -> None:
        """End the run with `status` if tracelet started it. The program's own run stays active."""
        if self._target is None:
            return
        self.detach()
        target = self._target
        with translated():
            self._access.call(lambda: target.end(status, self.run_ended))
        self._target = None
        self._access.close()

    def attach(self) -> None:
        """Make the run active for this thread's `mlflow.log_...` calls."""
        if self._target is None:
            return
        fluent = Fluent(self._store.uri, self._target.run, self._access, is_primary=self._target.label is None)
        with translated():
            fluent.attach()
        self._fluent = fluent

    def detach(self) -> None:
        fluent, self._fluent = self._fluent, None
        if fluent is not None:
            with translated():
                fluent.detach()

    def secrets(self) -> Iterable[str]:
        return secrets_outside(self._store.uri)

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
        page = f"/#/experiments/{self._target.experiment_id}/runs/{self._target.id}"
        return uri + page if self._store.is_http else uri

    @classmethod
    def view_config(cls, store: Path, run: r.RunInfo) -> dict[str, Any]:
        return {"tracking_uri": _view_uri(store)}

    @classmethod
    def view_command(cls, store: Path, host: str, port: int) -> ViewerCommand:
        options = ("--backend-store-uri", _view_uri(store), "--host", host, "--port", str(port), "--workers", "1")
        env = {**cls.telemetry_off_env, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        return ViewerCommand((sys.executable, "-m", "mlflow", "server", *options), env, without="_?MLFLOW_")

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Request one experiment from a server, with the credentials of a run; check if a file is writable."""
        store = resolve(config := config or MlflowConfig())
        shown, is_installed = redacted_url(store.uri), importlib.util.find_spec("mlflow") is not None
        reachable = False if store.is_http and is_installed else None
        try:
            check(store)
            if store.is_http:
                reachable = True
                with translated(), contextlib.closing(Access(store.uri, config, timeout=PROBE_TIMEOUT)) as access:
                    from mlflow import MlflowClient

                    access.open()
                    access.call(lambda: MlflowClient(store.uri).search_experiments(max_results=1))
        except BackendUnavailable as error:
            signed_in = False if is_auth_error(error.__cause__) else None
            reason = error.reason.removeprefix("mlflow: ")
            return Probe(False, f"{shown}: {reason}" if reachable else reason, reachable=reachable, signed_in=signed_in)
        if not store.is_http:
            path = store.database or Path(store.uri)
            existing = next((folder for folder in (path, *path.parents) if folder.exists()), path)
            if not os.access(existing, os.W_OK):
                return Probe(False, f"{existing} is not writable")
        return Probe(True, shown, reachable=reachable, signed_in=reachable)


def _view_uri(store: Path) -> str:
    return f"sqlite:///{store / 'mlflow.db'}"
