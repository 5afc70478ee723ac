"""Kill a run of 20,000 scalars and images at a given moment, deliver it afterwards, and read it back."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.store_content import StoreContent
from backends.stores import READERS
from programs import run_program, started

from tracelet.journal.store import JournalReader
from tracelet.records import Image, Scalar

SCALARS, IMAGE_EVERY = 20_000, 500
LONGEST = 6.0
"""Seconds from the first call to the latest kill: the loop takes about three, the end of the run follows."""
SAFE = 0.1
"""Records that were logged this many seconds before a kill must not be lost."""
BATCH = 4096
"""The most records in one write."""
ONCE = ("csv", "mlflow", "tensorboard", "trackio", "wandb")
"""Stores that hold every record once, whatever the moment. The others may hold one batch twice."""

# It writes its progress and the time with `os.write`, past all buffers, so that the notes survive a kill.
PROGRAM = """
    import os, sys, time
    import tracelet

    scalars, every, backend = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    experiment = tracelet.start_logging("killed", "kills", backend, flush_timeout=60, connect_timeout=60)
    notes = os.open("logged.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    print("ready", flush=True)
    for step in range(scalars):
        experiment.log_metric("loss", step, step)
        if step % every == 0:
            experiment.log_image("image", [[step % 256, step // 256 % 256]], step, dataformats="HW")
        if step % 10 == 9:
            os.write(notes, f"{step + 1} {time.monotonic()}\\n".encode())
            time.sleep(0.001)  # a training does something between its calls
    experiment.stop()
    print("ended", flush=True)
"""
SYNC = """
    import pathlib, sys
    from tracelet import sync

    synced = sync.deliver(pathlib.Path(sys.argv[1]), patience=60)
    # The store is the vendor's own offline recording: there is no server that it could be uploaded to.
    assert all(backend.pending == 0 for backend in synced.backends), synced
    print(sum(synced.new.values()))
"""


@dataclass
class Killed:
    """Hold a killed run: its first `safe` scalars must not be lost, and `journalled` scalars are in its journal."""

    folder: Path
    backend: str
    safe: int
    journalled: int
    images: int
    environment: dict[str, Any]
    read: Callable[[Path], StoreContent]

    def sync(self) -> int:
        """Run `tracelet sync` and return the number of records that it delivered."""
        ended = run_program(SYNC, self.run, deadline=180, **self.environment)
        assert 0 == ended.returncode, ended.err
        return int(ended.out)

    @property
    def run(self) -> Path:
        (journal,) = self.folder.glob("runs/*/*/journal.db")
        return journal.parent

    def assert_complete(self) -> None:
        """Check that the store has every record of the journal: once, or at most one batch twice, and in order."""
        stored = self.read(self.folder)
        counts = Counter(int(value) for tag, _, value, _ in stored.scalars if tag == "loss")
        assert [] == [step for step in range(self.journalled) if step not in counts][:10]
        assert self.journalled == len(counts)
        twice = [step for step, count in counts.items() if count > 1]
        assert len(twice) <= (0 if self.backend in ONCE else BATCH)
        assert all(count <= 2 for count in counts.values())
        if not twice:
            assert list(range(self.journalled)) == [int(value) for tag, _, value, _ in stored.scalars if tag == "loss"]
        assert [("image", IMAGE_EVERY * number) for number in range(self.images)] == sorted(stored.images)


def kill(
    folder: Path,
    backend: str,
    moment: float,
    *,
    alone: bool,
    read: Callable[[Path], StoreContent] | None = None,
    **more: str,
) -> Killed:
    """Run the program and kill it `moment` seconds after its first call; if `alone`, without its child processes.

    `read` reads the store, by default the local one. `more` are environment variables.
    """
    places = {"TRACELET_DIR": "runs", "WANDB_DIR": ".", "CLEARML_CACHE_DIR": "clearml", "TRACKIO_DIR": "trackio"}
    environment: dict[str, Any] = {name: str(folder / place) for name, place in places.items()} | more
    arguments = (SCALARS, IMAGE_EVERY, backend)
    with started(PROGRAM, *arguments, own_group=True, **environment) as program:
        assert program.stdout.readline(), program.stderr.read()
        time.sleep(moment)
        killed_at = time.monotonic()
        if alone:
            program.kill()
        else:
            with contextlib.suppress(ProcessLookupError):  # it ended before
                os.killpg(program.pid, signal.SIGKILL)
        program.wait(20)
    notes = [line.split() for line in (folder / "logged.txt").read_text().splitlines()]
    safe = max([int(count) for count, logged_at in notes if float(logged_at) < killed_at - SAFE], default=0)
    killed = Killed(folder, backend, safe, 0, 0, environment, read or READERS[backend])
    with JournalReader(killed.run) as reader:
        records = list(reader.records())
    values = [record.value for record in records if isinstance(record, Scalar)]
    assert list(range(len(values))) == values
    assert safe <= len(values)
    killed.journalled, killed.images = len(values), sum(isinstance(record, Image) for record in records)
    assert killed.images >= -(-safe // IMAGE_EVERY)
    return killed
