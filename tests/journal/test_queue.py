"""The queue to the journal: its bound counts every kind of record, and its batches are small enough to commit."""

import itertools
import tracemalloc

import msgspec
import pytest

from tracelet.errors import JournalError
from tracelet.guard import Guard
from tracelet.journal.queue import RecordQueue
from tracelet.journal.writer import JournalWriter
from tracelet.records import (
    Alert,
    Artifact,
    Embedding,
    File,
    Histogram,
    Params,
    PRCurve,
    RunInfo,
    Scalar,
    Summary,
    Table,
    Tags,
    Text,
)
from tracelet.redaction import Secrets

BOUND = 2**20
NUMBER = itertools.count(10**6)


def text(length):
    return f"{next(NUMBER)}" * (length // 7)


def floats(count):
    return tuple(float(next(NUMBER)) for _ in range(count))


RECORDS = {
    "params": lambda: Params({"p": text(10_000)}, 1.0),
    "many params": lambda: Params({text(20): next(NUMBER) for _ in range(500)}, 1.0),
    "a list of params": lambda: Params({"list": [text(50) for _ in range(500)]}, 1.0),
    "summary": lambda: Summary({text(20): float(next(NUMBER)) for _ in range(100)}, 1.0),
    "tags": lambda: Tags(tuple(text(50) for _ in range(100)), 1.0),
    "alert": lambda: Alert("title", text(3000), "info", 1.0),
    "text": lambda: Text("note", text(1500), 1, 1.0),
    "histogram": lambda: Histogram("h", floats(200), floats(200), 0.0, 1.0, 1.0, 1.0, 1.0, 1, 1.0),
    "pr curve": lambda: PRCurve("c", *(floats(127) for _ in range(6)), 1, 1.0),
    "table": lambda: Table("t", text(10_000).encode(), 1, 1.0),
    "artifact": lambda: Artifact("a/", tuple(File(text(40), text(64), 1) for _ in range(100)), 1.0),
    "embedding": lambda: Embedding("e", ("tensors.tsv",), (text(10_000).encode(),), 1, 1.0),
}


@pytest.fixture
def traced():
    """The bytes that Python holds since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


@pytest.mark.parametrize("kind", RECORDS)
def test_every_kind_counts_by_what_it_holds(kind, tmp_path, traced):
    """A full queue of any kind holds about its bound: neither a multiple of it, nor a small part."""
    queue = RecordQueue(tmp_path, Guard(), queue_bytes=BOUND, queue_timeout=0.0, start_seq=0)
    before = traced()
    while not queue.counts()[1]:
        queue.submit(RECORDS[kind]())
    assert BOUND / 3 < traced() - before < 1.5 * BOUND


def test_a_batch_ends_after_a_few_megabytes(tmp_path):
    """Large records are committed in several steps, small ones in one; afterwards the queue counts none of them."""
    queue = RecordQueue(tmp_path, Guard(), queue_bytes=2**28, queue_timeout=1.0, start_seq=0)
    for size in (10, *[3_000_000] * 5, 10, 10):
        queue.submit(Params({"p": "x" * size}, 1.0))
    sizes = []
    while True:
        more = queue.take()
        sizes.append(len(queue.pending))
        queue.remove_first(len(queue.pending))
        if not more:
            break
    assert [3, 2, 3] == sizes
    assert 0 == queue.large_bytes


@pytest.mark.parametrize("text", ["a" * 5000, "\u65e5" * 5000, "\u00fc" * 250, "\U0001f680" * 2000])
def test_a_record_counts_the_same_when_it_leaves(text, tmp_path):
    """Encoding a text makes its object larger: the queue takes back what it had counted, and no more."""
    queue = RecordQueue(tmp_path, Guard(), queue_bytes=2**28, queue_timeout=1.0, start_seq=0)
    record = Text(text, text, 1, 1.0)
    queue.submit(record)
    queue.submit(Text(f"{text}!", text, 1, 1.0))
    held = queue.large_bytes
    queue.take()
    msgspec.msgpack.encode(record)
    queue.remove_first(1)
    assert abs(held / 2 - queue.large_bytes) <= 1024
    queue.remove_first(1)
    assert 0 == queue.large_bytes


def test_memory_beside_a_full_disk_is_bounded(tmp_path, traced):
    """Scalars take several times the bytes of their encoding: the buffer counts those that they hold."""
    (tmp_path / "run").write_bytes(b"no folder")
    info = RunInfo(run_id="r", project=None, name=None, folder=str(tmp_path / "run"))
    writer = JournalWriter(tmp_path / "run", info, Guard(), BOUND, lambda: None, Secrets())
    before = traced()
    with pytest.raises(JournalError, match="memory buffer"):
        while True:
            writer.append([Scalar("loss", float(next(NUMBER)), next(NUMBER), 1.0 + next(NUMBER)) for _ in range(500)])
    assert BOUND / 3 < traced() - before < 1.5 * BOUND
