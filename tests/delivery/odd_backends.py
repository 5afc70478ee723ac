"""Backends that a delivery process can import: each misbehaves in a way of its own."""

import json
import os
import time
from pathlib import Path

import msgspec

from tracelet.backends.base import Backend
from tracelet.records import Scalar


class _Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    dir: str
    token: str | None = None


class _Kept(Backend):
    """Appends the values it gets to `values.jsonl`, which is what it holds."""

    Config = _Config
    accepts = (Scalar,)

    def open(self, run):
        self.file = Path(self.config.dir) / "values.jsonl"

    def write(self, batch):
        with self.file.open("a") as file:
            file.writelines(f"{json.dumps(record.value)}\n" for record in batch)


class Crashing(_Kept):
    """Its process dies, once, when half of the records are there."""

    name = "crashing"

    def resume_after(self):
        return len(self.file.read_text().splitlines()) if self.file.exists() else 0

    def write(self, batch):
        super().write(batch)
        mark = self.file.with_name("crashed")
        if batch.last >= 50 and not mark.exists():
            mark.touch()
            os._exit(7)


class Hanging(_Kept):
    """Its end never comes."""

    name = "hanging"

    def close(self, status, exit_code):
        while True:
            time.sleep(1)


class Talking(_Kept):
    """Tells where it works, and prints its credential."""

    name = "talking"
    foreign = ("TALKING_PARENT",)

    def open(self, run):
        super().open(run)
        told = {"pid": os.getpid(), "parent": os.environ.get("TALKING_PARENT"), "nice": os.nice(0)}
        self.file.with_name("told.json").write_text(json.dumps(told))
        self.address = f"https://example.org/{os.getpid()}"

    def secrets(self):
        return [self.config.token] if self.config.token else []

    def write(self, batch):
        super().write(batch)
        raise ValueError(f"the token is {self.config.token}")

    @property
    def url(self):
        return getattr(self, "address", None)
