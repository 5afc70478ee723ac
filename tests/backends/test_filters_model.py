"""Filters against a model of them: batches, portions, outages and restarts change no decision, and the sum adds up."""

import fnmatch
import tempfile
import time
from collections import Counter
from pathlib import Path

from delivery.delivering import quick
from hypothesis import given, settings
from hypothesis import strategies as st

from tracelet.backends.base import Backend, Written
from tracelet.backends.filters import Filter, FilterState
from tracelet.delivery.thread import Delivery
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.guard import Guard
from tracelet.journal.store import JournalReader
from tracelet.journal.tables import Cursor
from tracelet.journal.writer import JournalWriter
from tracelet.records import KINDS, Params, RunInfo, Scalar, Text, kind
from tracelet.redaction import Secrets

PATIENCE = 20.0
TAGS = ["a", "a/b", "debug/a", "[0]", ""]
PATTERNS = ["*", "a", "a/*", "*b", "debug/*", "[ad]*", "?", "[[]0]"]
WORDS = ["scalar", "text", "params"]

tags, wall_times = st.sampled_from(TAGS), st.integers(0, 20).map(float)
records = st.lists(
    st.one_of(
        st.builds(lambda tag, at: Scalar(tag, 1.0, None, at), tags, wall_times),
        st.builds(lambda tag, at: Text(tag, "x", None, at), tags, wall_times),
        st.builds(lambda at: Params({}, at), wall_times),
    ),
    max_size=60,
)
some = {
    "include": st.lists(st.sampled_from(PATTERNS), max_size=2).map(tuple),
    "exclude": st.lists(st.sampled_from(PATTERNS[1:]), max_size=2).map(tuple),
    "kinds": st.lists(st.sampled_from(WORDS), max_size=2).map(tuple),
    "exclude_kinds": st.lists(st.sampled_from(WORDS), max_size=1).map(tuple),
    "every": st.dictionaries(st.sampled_from(WORDS[:2]), st.integers(1, 8).map(float)),
}
wanted = st.builds(Filter, **some)
accepted = st.sampled_from([KINDS, (Scalar,), (Scalar, Params)])


def model(said, accepts, given):
    """The reason for each record, None where it goes through: the documentation, line by line."""
    found, last = [], {}
    for one in said:
        word, tag = kind(one), getattr(one, "tag", None)
        if type(one) not in accepts:
            found.append("accepts")
        elif given.kinds and word not in given.kinds:
            found.append("kinds")
        elif word in given.exclude_kinds:
            found.append("exclude_kinds")
        elif tag is None:
            found.append(None)
        elif given.include and not any(fnmatch.fnmatchcase(tag, pattern) for pattern in given.include):
            found.append("include")
        elif any(fnmatch.fnmatchcase(tag, pattern) for pattern in given.exclude):
            found.append("exclude")
        elif word in given.every and abs(one.wall_time - last.get((word, tag), -1000.0)) < given.every[word]:
            found.append("every")
        else:
            last[word, tag] = one.wall_time
            found.append(None)
    return found


@given(
    records,
    accepted,
    wanted,
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.booleans()), max_size=40),
)
@settings(max_examples=400)
def test_pieces_change_no_decision(said, accepts, given, pieces):
    """Pieces of any size, of which any part is handed over before the next is asked for, with new processes between."""
    sieve, found = FilterState(accepts, given), []
    for size, handed, restarts in [*pieces, (len(said), len(said), False)]:
        piece = said[len(found) : len(found) + size]
        first = len(found) + 1
        passed, others = sieve.apply(first, piece)
        assert list(range(first, first + len(piece))) == sorted([*dict(passed), *dict(others)])
        told = dict.fromkeys(dict(passed)) | dict(others)
        last = min(first - 1 + handed, first - 1 + len(piece))
        found += [told[seq] for seq in range(first, last + 1)]
        if restarts:
            sieve = FilterState(accepts, given)
            sieve.apply(1, said[: len(found)])
            last = len(found)
        sieve.commit(last)
    assert model(said, accepts, given) == found


class Store:
    """What a vendor has, and how many records more it takes before it is away."""

    def __init__(self):
        self.records = []
        self.room = 0


def is_refused(record):
    return getattr(record, "tag", None) == "[0]"


class Filling(Backend):
    """Takes as many records as there is room for; refuses those of one name."""

    name = "filling"

    def __init__(self, store, accepts, given):
        super().__init__()
        self.store, self.accepts, self.filter = store, accepts, given

    def open(self, run):
        return

    def write(self, batch):
        for at, record in enumerate(batch):
            if not self.store.room:
                return Written(at, BackendUnavailable("full"))
            self.store.room -= 1
            if is_refused(record):
                return Written(at, RecordRejected("no"))
            self.store.records.append(record)
        return None


@given(
    st.lists(st.tuples(st.lists(records, max_size=4), st.integers(0, 40)), min_size=1, max_size=4),
    accepted,
    wanted,
)
@settings(max_examples=60)
def test_deliveries_keep_to_it(sessions, accepts, given):
    """Each session of the run is a process: some batches, and a store that takes some records until its end comes."""
    said, store = [], Store()
    with quick(), tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        for batches, room in [*sessions, ([], 10**6)]:
            store.room = room
            stats, refused = session(Path(place), batches, said, Filling(store, accepts, given))
    reasons = model(said, accepts, given)
    through = [(seq, one) for seq, one in enumerate(said, 1) if reasons[seq - 1] is None]
    taken = [one for _, one in through if not is_refused(one)]
    assert taken == store.records
    assert [seq for seq, one in through if is_refused(one)] == refused
    assert (len(taken), len(refused), 0) == (stats.delivered, stats.rejected, stats.pending)
    assert Counter(reason for reason in reasons if reason) == stats.filtered_by


def session(folder, batches, said, backend):
    """One process of the run, from its start to its end; the numbers hold at any time."""
    guard = Guard()
    resumed = (folder / "journal.db").exists()
    info = RunInfo(run_id="r", project=None, name=None, folder=str(folder), resumed=resumed)
    keeper = JournalWriter(folder, info, guard, 2**20, lambda: None, Secrets())
    with JournalReader(folder) as reader:
        cursor = reader.cursors().get("filling", Cursor())
    delivery = Delivery(
        backend,
        folder,
        info,
        cursor,
        keeper.overflow,
        start_seq=keeper.last,
        report=keeper.set_cursor,
        guard=guard,
        on_open=lambda: None,
    )
    delivery.start()
    for batch in batches:
        if batch:
            keeper.append(batch)
            said += batch
        delivery.wake()
        assert_balanced(delivery.status(delivery.cursor, len(said), 0), len(said))
    patience = PATIENCE if backend.store.room > 10**5 else 0.01
    delivery.finish("finished", 0, time.monotonic() + patience)
    assert delivery.wait_ended(time.monotonic() + PATIENCE)
    stats = delivery.status(delivery.cursor, len(said), 0)
    assert_balanced(stats, len(said))
    keeper.close()
    with JournalReader(folder) as reader:
        return stats, [one.seq for one in reader.rejections("filling")]


def assert_balanced(stats, submitted):
    parts = (stats.delivered, stats.pending, stats.rejected, stats.filtered, stats.dropped)
    assert min(parts) >= 0
    assert submitted == sum(parts)
    assert stats.filtered == sum(stats.filtered_by.values())
