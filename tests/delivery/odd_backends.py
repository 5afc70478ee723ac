"""Define backends that a delivery process can import. Each misbehaves in its own way."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from tracelet.backends.base import Backend, BackendConfig, Batch, Status
from tracelet.backends.capabilities import ChildProcesses, Probing
from tracelet.records import RunInfo, Scalar


class _Config(BackendConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    secret_keys = ("token",)

    dir: str
    token: str | None = None


class _FileBackend(Backend):
    """Append the values of scalars to `values.jsonl`, its store."""

    Config = _Config
    accepts = (Scalar,)

    def open(self, run: RunInfo) -> int | None:
        self.file = Path(self.config.dir) / "values.jsonl"
        return None

    def write(self, batch: Batch) -> None:
        scalars = [record for record in batch if isinstance(record, Scalar)]
        with self.file.open("a") as file:
            file.writelines(f"{json.dumps(scalar.value)}\n" for scalar in scalars)


class Crashing(_FileBackend):
    """Kill its process once, when half of the records are stored."""

    name = "crashing"

    def open(self, run: RunInfo) -> int:
        super().open(run)
        return len(self.file.read_text().splitlines()) if self.file.exists() else 0

    def write(self, batch: Batch) -> None:
        super().write(batch)
        mark = self.file.with_name("crashed")
        if batch.last >= 50 and not mark.exists():
            mark.touch()
            os._exit(7)


class Hanging(_FileBackend):
    """Never return from `close`."""

    name = "hanging"

    def close(self, status: Status, exit_code: int) -> None:
        while True:
            time.sleep(1)


class Slow(_FileBackend):
    """Write the end of the run to `closing`, and return from `close` when there is a file `release`."""

    name = "slow"

    def close(self, status: Status, exit_code: int) -> None:
        draft = self.file.with_name("closing.new")
        draft.write_text(json.dumps(self.run_ended))
        draft.rename(self.file.with_name("closing"))
        deadline = time.monotonic() + 60
        while not self.file.with_name("release").exists() and time.monotonic() < deadline:
            time.sleep(0.01)


class Talking(_FileBackend, ChildProcesses, Probing):
    """Describe its process in `process.json`, and reveal its credential in an error."""

    name = "talking"
    parent_env = ("TALKING_PARENT",)

    def open(self, run: RunInfo) -> None:
        super().open(run)
        process = {"pid": os.getpid(), "parent": os.environ.get("TALKING_PARENT"), "nice": os.nice(0)}
        self.file.with_name("process.json").write_text(json.dumps(process))
        self.address = f"https://example.org/{os.getpid()}"

    def secrets(self) -> Iterable[str]:
        return [self.config.token] if self.config.token else []

    def write(self, batch: Batch) -> None:
        super().write(batch)
        raise ValueError(f"the token is {self.config.token}")

    @property
    def url(self) -> str | None:
        return getattr(self, "address", None)
