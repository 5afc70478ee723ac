"""Make random event files, journals and calls, and hand them to tracelet until the time is up.

`fuzz` has one GiB of memory. It prints the seed of each try; the last one is that of a failure.
"""

from __future__ import annotations

import contextlib
import gzip
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from importer.event_files import event, framed, session
from importer.tensorflow_files import mesh_part, other, strings, summary, tensor
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from typer.testing import CliRunner

import tracelet
from tracelet.cli import app
from tracelet.errors import JournalError, TraceletError
from tracelet.importer import import_run
from tracelet.journal.store import Journal, JournalReader
from tracelet.sync import deliver
from tracelet.testing import MemoryBackend, run_info, sample_records

MEMORY = 2**30
_HEADER, _FOOTER = 12, 4


def _events(chance: random.Random) -> list[bytes]:
    """Return framed events of all kinds."""
    big = sys.float_info.max
    histogram = HistogramProto(min=3, max=3, num=7, bucket_limit=[2.9, 3.1, big], bucket=[0, 7, 0])
    image = Summary.Value(tag="i", image=Summary.Image(height=1, width=1, encoded_image_string=b"\x89PNG"))
    values = [
        tensor("a", np.float32(1), "scalars"),
        tensor("b", np.array([[0.0, 1, 2], [1, 2, 3]]), "histograms"),
        tensor("c", np.zeros((6, 4), "f4"), "pr_curves"),
        strings("d", [["x", "y"], ["z", "w"]], "text"),
        strings("e", [b"2", b"2", b"\x89PNG", b"\x89PNG"], "images"),
        mesh_part("m", 1, np.zeros((1, 3, 3), "f4"), (1,)),
        Summary.Value(tag="h", histo=histogram),
        Summary.Value(tag="s", audio=Summary.Audio(sample_rate=1, num_channels=1, encoded_audio_string=b"RIFF")),
        image,
    ]
    pieces = [
        event(0),
        session(1, lr=0.5, layers=[1.0, 2.0]),
        other(graph_def=b"\x0a\x00"),
        other(file_version="brain"),
    ]
    pieces += [summary(step, value) for step, value in enumerate(values)]
    return chance.choices(pieces, k=chance.randint(1, 12))


def _damaged(chance: random.Random, data: bytes) -> bytes:
    """Return `data` with some bits, bytes or ranges changed, cut, repeated or removed."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        position, length = chance.randrange(len(changed) + 1), chance.choice((1, 1, 2, 4, 8, 64))
        match chance.randrange(5):
            case 0 if position < len(changed):
                changed[position] ^= 1 << chance.randrange(8)
            case 1:
                changed[position : position + length] = chance.randbytes(length)
            case 2:
                del changed[position : position + length]
            case 3:
                changed[position:position] = changed[position : position + length]
            case _:
                changed[position : position + length] = chance.choice((b"\xff", b"\x00", b"\x80")) * length
    return bytes(changed)


def event_files(chance: random.Random, folder: Path) -> None:
    """Import a folder of damaged files twice, and read the journal."""
    for number in range(chance.randint(1, 3)):
        pieces = []
        for piece in _events(chance):
            match chance.randrange(4):
                case 0:  # with a true checksum
                    piece = framed(_damaged(chance, piece[_HEADER:-_FOOTER]))
                case 1:
                    piece = _damaged(chance, piece)
            pieces.append(piece)
        data = b"".join(pieces)
        path = folder / "exp" / chance.choice(("", "train", "a/b")) / f"events.out.tfevents.{number}.host.1.0"
        path.parent.mkdir(parents=True, exist_ok=True)
        if chance.random() < 0.2:
            packed = gzip.compress(data)
            path, data = Path(f"{path}.gz"), packed if chance.random() < 0.5 else _damaged(chance, packed)
        path.write_bytes(data)
    for _ in range(2):
        done = import_run(folder / "exp", base=folder / "runs")
    if done is not None and done.folder.exists():
        with JournalReader(done.folder) as reader:
            list(reader.records())


def journals(chance: random.Random, folder: Path) -> None:
    """Read, list, show, deliver and clean up runs, one of which has a damaged journal."""
    runs = folder / "runs" / "default"
    for name in ("good", "bad"):
        with contextlib.closing(Journal(runs / name)) as journal:
            journal.put_info(msgspec.structs.replace(run_info(folder, name), folder=str(runs / name)))
            for record in sample_records(folder):
                journal.append([record])
            journal.annotate("status", "finished")
    path = runs / "bad" / "journal.db"
    path.write_bytes(_damaged(chance, path.read_bytes()))
    with contextlib.suppress(JournalError), JournalReader(runs / "bad") as reader:
        for read in (reader.info, reader.facts, reader.cursors, reader.ended, lambda: list(reader.records())):
            with contextlib.suppress(JournalError):
                read()
    with contextlib.suppress(TraceletError):
        deliver(runs / "bad", ["csv"])
    for words in (("runs",), ("show", "good"), ("show", "bad"), ("compare", "good", "bad"), ("gc", "--dry-run")):
        done = CliRunner().invoke(app, [*words, "--dir", str(folder / "runs")])
        assert done.exit_code in (0, 1, 2), (words, done)
        assert isinstance(done.exception, SystemExit | None), (words, done)
        if words == ("runs",):
            assert "good" in done.output, done.output


class _Odd:
    """Raise in each of its own methods, or return values of the wrong type."""

    def __init__(self, kind: int) -> None:
        self._kind = kind

    def _answer(self, *_: Any) -> Any:
        kind = object.__getattribute__(self, "_kind")
        if kind == 0:
            raise RuntimeError("odd")
        return (None, [], "text", float("nan"), 10**400, self)[kind % 6]

    __str__ = __repr__ = __float__ = __int__ = __index__ = __len__ = __iter__ = __array__ = __fspath__ = _answer
    __eq__ = __hash__ = __bool__ = _answer


_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.builds(_Odd, st.integers(0, 6))
)
_arrays = st.builds(
    lambda shape, kind, seed: np.random.default_rng(seed).integers(0, 2, shape).astype(kind),
    st.lists(st.integers(0, 5), max_size=5),
    st.sampled_from(("f8", "f4", "f2", "i8", "u1", "?", "c16", "U3", "O", "M8[s]")),
    st.integers(0, 2**32),
)
_values = st.recursive(
    _scalars | _arrays,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=12,
)
_METHODS = (
    *("log_metric", "log_metrics", "log_params", "log_text", "log_table", "log_histogram", "log_image", "log_audio"),
    *("log_video", "log_figure", "add_tags", "alert"),
)
_calls = st.tuples(st.sampled_from(_METHODS), st.lists(_values, min_size=1, max_size=4))


def calls(chance: random.Random, folder: Path) -> None:
    """Call every public method with any values: it raises a TraceletError, a TypeError on its line, or records."""
    experiment = tracelet.start_logging(backend=MemoryBackend(), dir=folder / "runs", collect=False)

    @settings(
        max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=False
    )
    @given(_calls)
    def call(made: tuple[str, list[Any]]) -> None:
        method, arguments = made
        with contextlib.suppress(TraceletError, TypeError):
            getattr(experiment, method)(*arguments)
        with contextlib.suppress(TraceletError, TypeError):
            experiment.summary.update({"value": arguments[0]})

    call()
    experiment.flush()
    errors = {cause: count for cause, count in experiment.stats().causes.items() if "error in" in cause}
    tracelet.stop_logging()
    assert not errors, errors
    with JournalReader(experiment.folder) as reader:
        list(reader.records())


TARGETS: dict[str, Callable[[random.Random, Path], None]] = {
    "event_files": event_files,
    "journals": journals,
    "calls": calls,
}


def _seeds(first: int, seconds: float) -> Iterator[int]:
    end, seed = time.monotonic() + seconds, first
    while time.monotonic() < end:
        yield seed
        seed += 1


def fuzz(target: str, first: int, seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    tries = 0
    for seed in _seeds(first, seconds):
        print(f"seed {seed}", flush=True)
        folder = Path("try")
        try:
            TARGETS[target](random.Random(seed), folder.absolute())
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        tries += 1
    print(f"{tries} tries")
