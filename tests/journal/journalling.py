"""A model of the journal: batches, cursors, and what may be left of them after a kill, a power cut or damage."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tracelet.journal.store import Cursor, Journal, JournalReader, Rejection
from tracelet.records import Params, Scalar, Text

BACKENDS = ("csv", "wandb")


def record(number):
    """The record with this sequence number; every kind of form in turn."""
    match number % 3:
        case 0:
            return Scalar("loss", number / 7, number, 1.0)
        case 1:
            return Text("note", "ü" * (number * 37 % 900), None, 2.0)
        case _:
            return Params({"a": number, "b": [None, "x", 0.5]}, 3.0)


class JournalModel(RuleBasedStateMachine):
    """`batches`: (first, last, state) with the states whole, hole and damaged."""

    @initialize()
    def begin(self):
        self.place = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.processes = 0
        self.folder = Path(self.place.name, "run")
        self.batches, self.cursors, self.rejected = [], {}, {}
        self.open()

    def open(self):
        """A new process: as far as the journal goes, the earlier ones were as well."""
        self.journal = Journal(self.folder)
        self.readers = [(JournalReader(self.folder), 0), (JournalReader(self.folder), self.last)]
        self.states = [self.state()]
        self.begun = (self.folder / "journal.db-wal").stat().st_size
        assert self.last == self.journal.last

    @property
    def last(self):
        return self.batches[-1][1] if self.batches else 0

    def state(self):
        rejected = {name: dict(seqs) for name, seqs in self.rejected.items() if seqs}
        return tuple(self.batches), dict(self.cursors), rejected

    @rule(count=st.integers(1, 6))
    def append(self, count):
        first = self.last + 1
        assert first + count - 1 == self.journal.append([record(number) for number in range(first, first + count)])
        self.batches.append((first, first + count - 1, "whole"))
        self.states.append(self.state())

    @rule(count=st.integers(1, 4))
    def skip(self, count):
        """The disk was full, and these were delivered from memory."""
        first = self.last + 1
        self.journal.skip_to(self.last + count)
        self.batches.append((first, first + count - 1, "hole"))
        self.states.append(self.state())

    @rule(backend=st.sampled_from(BACKENDS), part=st.floats(0, 1), refuses=st.booleans())
    def acknowledge(self, backend, part, refuses):
        """A cursor may also go back: its store lost something."""
        position = round(part * self.last)
        rejections = [Rejection(position, f"no {position}", record(position))] if refuses and position else []
        self.rejected.setdefault(backend, {}).update({one.seq: one.reason for one in rejections})
        if rejections:
            self.states.append(self.state())
        delivered = position - len(rejections)
        self.cursors[backend] = Cursor(position=position, delivered=delivered, rejected=len(rejections))
        self.journal.put_cursor(backend, self.cursors[backend], rejections)
        self.states.append(self.state())

    @rule(which=st.integers(0, 1))
    def read(self, which):
        """Each of two readers goes on where it was: nothing left out, nothing twice."""
        reader, position = self.readers[which]
        batch = reader.next_batch(position)
        following = [one for one in self.batches if one[1] > position]
        if not following:
            assert None is batch
            return
        self.compare(batch, following[0], position)
        self.readers[which] = reader, batch.last

    def compare(self, batch, expected, position):
        first, last, state = expected
        begin = max(first, position + 1)
        assert (begin, last) == (batch.first, batch.last)
        assert ([record(number) for number in range(begin, last + 1)] if state == "whole" else []) == batch.records
        words = {"whole": "None", "hole": "were never kept", "damaged": "are damaged"}
        assert words[state] in str(batch.damaged)

    @rule(which=st.integers(0, 1), part=st.floats(0, 1))
    def jump(self, which, part):
        """Reading may begin after any record."""
        self.readers[which] = self.readers[which][0], round(part * self.last)

    @rule(part=st.floats(0, 1))
    def damage(self, part):
        """A bit is turned in one batch."""
        whole = [at for at, (_, _, state) in enumerate(self.batches) if state == "whole"]
        if not whole:
            return
        at = whole[min(int(part * len(whole)), len(whole) - 1)]
        first, last, _ = self.batches[at]
        with sqlite3.connect(self.folder / "journal.db", isolation_level=None) as db:
            (data,) = db.execute("SELECT data FROM batches WHERE first = ?", (first,)).fetchone()
            place = int(part * (len(data) - 1))
            flipped = data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]
            db.execute("UPDATE batches SET data = ? WHERE first = ?", (flipped, first))
        db.close()
        self.batches[at] = (first, last, "damaged")
        self.states.append(self.state())

    @rule()
    def stop_and_start(self):
        self.close_readers()
        self.journal.close()
        assert ["journal.db", "journal.lock"] == sorted(path.name for path in self.folder.iterdir())
        self.open()

    @rule(cut=st.none() | st.floats(0, 1))
    def die(self, cut):
        """Killed, or by a power cut, which may take the end of the log with it; the files are as they lie there.

        A cut before the tables are on the disk leaves no journal at all, and is not played.
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
        self.batches, self.cursors, self.rejected = list(found[0]), *found[1:]
        self.open()

    def found(self, reader):
        batches, position = [], 0
        while batch := reader.next_batch(position):
            states = {None: "whole"} if batch.damaged is None else {batch.damaged: "damaged"}
            state = "hole" if "never kept" in str(batch.damaged) else states[batch.damaged]
            batches.append((batch.first, batch.last, state))
            position = batch.last
        rejected = {name: {one.seq: one.reason for one in reader.rejections(name)} for name in BACKENDS}
        return tuple(batches), reader.cursors(), {name: seqs for name, seqs in rejected.items() if seqs}

    @invariant()
    def another_process_sees_the_same(self):
        if not hasattr(self, "journal"):
            return
        with JournalReader(self.folder) as reader:
            assert self.last == reader.last() == self.journal.last
            assert self.cursors == reader.cursors()

    def close_readers(self):
        for reader, _ in self.readers:
            reader.close()

    def teardown(self):
        if not hasattr(self, "journal"):
            return
        with JournalReader(self.folder) as reader:
            found = self.found(reader)
            whole = [range(first, last + 1) for first, last, state in self.batches if state == "whole"]
            assert [record(number) for numbers in whole for number in numbers] == list(reader.records())
        assert (tuple(self.batches), self.cursors) == found[:2]
        self.close_readers()
        self.journal.close()
        self.place.cleanup()
