"""A run of 20,000 scalars and pictures that is killed at some moment, delivered afterwards, and read back."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from backends.stores import READERS
from programs import run_program, started

from tracelet.journal.store import JournalReader
from tracelet.records import Image, Scalar

SCALARS, IMAGE_EVERY = 20_000, 500
LONGEST = 6.0
"""Seconds from the first call to the latest kill: the loop takes some three, the end of the run follows."""
SAFE = 0.1
"""What was said so many seconds before a kill is kept."""
BATCH = 4096
"""The most records that one write takes."""
ONCE = ("csv", "mlflow", "wandb")
"""Stores that hold everything once, whatever the moment; in the others a batch may be twice."""

# It writes down what it has said, and when, past every buffer of its own: the notes of a killed process stay.
PROGRAM = """
    import os, sys, time
    import tracelet

    scalars, every, backend = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    experiment = tracelet.start_logging("killed", "kills", backend, flush_timeout=60, connect_timeout=60)
    notes = os.open("said.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    print("ready", flush=True)
    for step in range(scalars):
        experiment.log_metric("loss", step, step)
        if step % every == 0:
            experiment.log_image("picture", [[step % 256, step // 256 % 256]], step, dataformats="HW")
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
    # A vendor's own offline recording is its store here: there is no server that it could be handed over to.
    assert all(one.waiting == 0 for one in synced.outcomes), synced
    print(sum(one.new for one in synced.outcomes))
"""


@dataclass
class Killed:
    """A run that was killed in `folder`: its scalars that must not be lost, and those that its journal has."""

    folder: Path
    backend: str
    safe: int
    journalled: int
    pictures: int
    environment: dict[str, str]

    def sync(self) -> int:
        """`tracelet sync` of the run; gives the number of records that it delivered."""
        ended = run_program(SYNC, self.run, deadline=180, **self.environment)
        assert 0 == ended.returncode, ended.err
        return int(ended.out)

    @property
    def run(self) -> Path:
        (journal,) = self.folder.glob("runs/*/*/journal.db")
        return journal.parent

    def assert_complete(self) -> None:
        """Everything that the journal has is in the store: once, or at most a batch of it twice, and in order."""
        stored = READERS[self.backend](self.folder)
        counts = Counter(int(value) for tag, _, value, _ in stored.scalars if tag == "loss")
        assert [] == [step for step in range(self.journalled) if step not in counts][:10]
        assert self.journalled == len(counts)
        twice = [step for step, count in counts.items() if count > 1]
        assert len(twice) <= (0 if self.backend in ONCE else BATCH)
        assert all(count <= 2 for count in counts.values())
        if not twice:
            assert list(range(self.journalled)) == [int(value) for tag, _, value, _ in stored.scalars if tag == "loss"]
        assert [("picture", IMAGE_EVERY * number) for number in range(self.pictures)] == sorted(stored.images)


def kill(folder: Path, backend: str, moment: float, *, alone: bool) -> Killed:
    """The program, killed `moment` seconds after its first call; `alone`: without the processes that it started."""
    places = {"TRACELET_DIR": folder / "runs", "WANDB_DIR": folder, "CLEARML_CACHE_DIR": folder / "clearml"}
    environment = {name: str(place) for name, place in places.items()}
    arguments = (SCALARS, IMAGE_EVERY, backend)
    with started(PROGRAM, *arguments, preexec=os.setpgrp, **environment) as program:
        assert program.stdout.readline(), program.stderr.read()
        time.sleep(moment)
        at = time.monotonic()
        if alone:
            program.kill()
        else:
            os.killpg(program.pid, signal.SIGKILL)
        program.wait(20)
    notes = [line.split() for line in (folder / "said.txt").read_text().splitlines()]
    safe = max([int(count) for count, said in notes if float(said) < at - SAFE], default=0)
    killed = Killed(folder, backend, safe, 0, 0, environment)
    with JournalReader(killed.run) as reader:
        records = list(reader.records())
    values = [one.value for one in records if isinstance(one, Scalar)]
    assert list(range(len(values))) == values
    assert safe <= len(values)
    killed.journalled, killed.pictures = len(values), sum(isinstance(one, Image) for one in records)
    assert killed.pictures >= -(-safe // IMAGE_EVERY)
    return killed
