"""Model the journal: batches, cursors, and the possible remains of them after a kill, a power cut or damage."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tracelet.journal.store import Journal, JournalReader
from tracelet.journal.tables import Cursor, Rejection, StoredBatch
from tracelet.records import Params, Record, Scalar, Text

BACKENDS = ("csv", "wandb")
BatchState: TypeAlias = tuple[int, int, str]
"""(first, last, state) of a batch; the state is whole, hole or damaged."""
State: TypeAlias = tuple[tuple[BatchState, ...], dict[str, Cursor], dict[str, dict[int, str]]]
"""Batches, cursors by backend, and reasons of rejections by backend and sequence number."""


def record(number: int) -> Record:
    """Return the record with this sequence number; three kinds take turns."""
    match number % 3:
        case 0:
            return Scalar("loss", number / 7, number, 1.0)
        case 1:
            return Text("note", "ü" * (number * 37 % 900), None, 2.0)
        case _:
            return Params({"a": number, "b": [None, "x", 0.5]}, 3.0)


class JournalModel(RuleBasedStateMachine):
    """Write one journal in several processes, and compare it with `batches`, `cursors` and `rejected`."""

    @initialize()
    def begin(self) -> None:
        self.temporary = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.processes = 0
        self.folder = Path(self.temporary.name, "run")
        self.batches: list[BatchState] = []
        self.cursors: dict[str, Cursor] = {}
        self.rejected: dict[str, dict[int, str]] = {}
        self.open()

    def open(self) -> None:
        """Open the journal as a new process does."""
        self.journal = Journal(self.folder)
        self.readers = [(JournalReader(self.folder), 0), (JournalReader(self.folder), self.last)]
        self.states = [self.state()]
        self.begun = (self.folder / "journal.db-wal").stat().st_size
        assert self.last == self.journal.last

    @property
    def last(self) -> int:
        return self.batches[-1][1] if self.batches else 0

    def state(self) -> State:
        rejected = {name: dict(seqs) for name, seqs in self.rejected.items() if seqs}
        return tuple(self.batches), dict(self.cursors), rejected

    @rule(count=st.integers(1, 6))
    def append(self, count: int) -> None:
        first = self.last + 1
        assert first + count - 1 == self.journal.append([record(number) for number in range(first, first + count)])
        self.batches.append((first, first + count - 1, "whole"))
        self.states.append(self.state())

    @rule(count=st.integers(1, 4))
    def skip(self, count: int) -> None:
        """Skip records, as if they were delivered from memory while the disk was full."""
        first = self.last + 1
        self.journal.skip_to(self.last + count)
        self.batches.append((first, first + count - 1, "hole"))
        self.states.append(self.state())

    @rule(backend=st.sampled_from(BACKENDS), part=st.floats(0, 1), refuses=st.booleans())
    def acknowledge(self, backend: str, part: float, refuses: bool) -> None:
        """Move a cursor. It also moves back, as when its store lost records."""
        position = round(part * self.last)
        rejections = [Rejection(position, f"no {position}", record(position))] if refuses and position else []
        self.rejected.setdefault(backend, {}).update({rejection.seq: rejection.reason for rejection in rejections})
        if rejections:
            self.states.append(self.state())
        delivered = position - len(rejections)
        self.cursors[backend] = Cursor(position=position, delivered=delivered, rejected=len(rejections))
        self.journal.put_cursor(backend, self.cursors[backend], rejections)
        self.states.append(self.state())

    @rule(which=st.integers(0, 1))
    def read(self, which: int) -> None:
        """Read the next batch with one of two readers: nothing is left out, nothing appears twice."""
        reader, position = self.readers[which]
        batch = reader.next_batch(position)
        following = [expected for expected in self.batches if expected[1] > position]
        if not following:
            assert None is batch
            return
        assert batch is not None
        self.compare(batch, following[0], position)
        self.readers[which] = reader, batch.last

    def compare(self, batch: StoredBatch, expected: BatchState, position: int) -> None:
        first, last, state = expected
        begin = max(first, position + 1)
        assert (begin, last) == (batch.first, batch.last)
        assert ([record(number) for number in range(begin, last + 1)] if state == "whole" else []) == batch.records
        reasons = {"whole": "None", "hole": "were never stored", "damaged": "are damaged"}
        assert reasons[state] in str(batch.damaged)

    @rule(which=st.integers(0, 1), part=st.floats(0, 1))
    def jump(self, which: int, part: float) -> None:
        """Move a reader to any record."""
        self.readers[which] = self.readers[which][0], round(part * self.last)

    @rule(part=st.floats(0, 1))
    def damage(self, part: float) -> None:
        """Flip a bit in one batch."""
        whole = [index for index, (_, _, state) in enumerate(self.batches) if state == "whole"]
        if not whole:
            return
        index = whole[min(int(part * len(whole)), len(whole) - 1)]
        first, last, _ = self.batches[index]
        with sqlite3.connect(self.folder / "journal.db", isolation_level=None) as db:
            (data,) = db.execute("SELECT data FROM batches WHERE first = ?", (first,)).fetchone()
            offset = int(part * (len(data) - 1))
            flipped = data[:offset] + bytes([data[offset] ^ 16]) + data[offset + 1 :]
            db.execute("UPDATE batches SET data = ? WHERE first = ?", (flipped, first))
        db.close()
        self.batches[index] = (first, last, "damaged")
        self.states.append(self.state())

    @rule()
    def stop_and_start(self) -> None:
        self.close_readers()
        self.journal.close()
        assert ["journal.db", "journal.lock"] == sorted(path.name for path in self.folder.iterdir())
        self.open()

    @rule(cut=st.none() | st.floats(0, 1))
    def die(self, cut: float | None) -> None:
        """Copy the files as a kill leaves them; with `cut`, as a power cut does, which may shorten the log.

        A cut before the tables are on the disk leaves no journal at all, and is not modelled.
        """
        self.processes += 1
        left = self.folder.with_name(f"run{self.processes}")
        left.mkdir()
        log = (self.folder / "journal.db-wal").read_bytes()
        shutil.copyfile(self.folder / "journal.db", left / "journal.db")
        end = len(log) if cut is None else self.begun + int(cut * (len(log) - self.begun))
        (left / "journal.db-wal").write_bytes(log[:end])
        self.close_readers()
        self.journal._stack.close()
        self.folder = left
        with JournalReader(left) as reader:
            found = self.found(reader)
        if cut is None:
            assert self.states[-1] == found
        else:
            assert found in self.states
        batches, self.cursors, self.rejected = found
        self.batches = list(batches)
        self.open()

    def found(self, reader: JournalReader) -> State:
        """Return the state that the journal shows."""
        batches: list[BatchState] = []
        position = 0
        while batch := reader.next_batch(position):
            if batch.damaged is None:
                state = "whole"
            else:
                state = "hole" if "never stored" in batch.damaged else "damaged"
            batches.append((batch.first, batch.last, state))
            position = batch.last
        rejected = {
            name: {rejection.seq: rejection.reason for rejection in reader.rejections(name)} for name in BACKENDS
        }
        return tuple(batches), reader.cursors(), {name: seqs for name, seqs in rejected.items() if seqs}

    @invariant()
    def another_process_sees_the_same(self) -> None:
        if not hasattr(self, "journal"):
            return
        with JournalReader(self.folder) as reader:
            assert self.last == reader.last() == self.journal.last
            assert self.cursors == reader.cursors()

    def close_readers(self) -> None:
        for reader, _ in self.readers:
            reader.close()

    def teardown(self) -> None:
        if not hasattr(self, "journal"):
            return
        with JournalReader(self.folder) as reader:
            found = self.found(reader)
            whole = [range(first, last + 1) for first, last, state in self.batches if state == "whole"]
            assert [record(number) for numbers in whole for number in numbers] == list(reader.records())
        assert (tuple(self.batches), self.cursors) == found[:2]
        self.close_readers()
        self.journal.close()
        self.temporary.cleanup()
