"""Write event files byte for byte, and read journals back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tracelet.importer import import_run
from tracelet.journal.store import JournalReader
from tracelet.records import Embedding, Params, Record, Scalar

BEGUN = 1_700_000_000


def framed(data: bytes) -> bytes:
    """Return a record in TensorBoard's frame, with TensorBoard's own checksum."""
    length = len(data).to_bytes(8, "little")
    sums: Iterator[bytes] = (masked_crc32c(part).to_bytes(4, "little") for part in (length, data))
    return length + next(sums) + data + next(sums)


def event(step: int, value: float = 0.5, tag: str = "loss", wall_time: float | None = None) -> bytes:
    """Return the framed event of a scalar."""
    scalar = Event(step=step, wall_time=BEGUN + step if wall_time is None else wall_time)
    scalar.summary.value.add(tag=tag, simple_value=value)
    return framed(scalar.SerializeToString())


def session(number: int = 0, **hparams: Any) -> bytes:
    """Return the framed event of a writer's session with these hyperparameters, and nothing else."""
    start = HParamsPluginData(version=0)
    for name, value in hparams.items():
        field = start.session_start_info.hparams[name]
        match value:
            case list():
                field.list_value.extend(value)
            case dict():
                field.struct_value.update(value)
            case _:
                field.number_value = value
    made = Event(step=0, wall_time=BEGUN + number)
    value = made.summary.value.add(tag="_hparams_/session_start_info")
    value.metadata.plugin_data.plugin_name = "hparams"
    value.metadata.plugin_data.content = start.SerializeToString()
    return framed(made.SerializeToString())


def write(folder: Path, *pieces: bytes, begun: int = BEGUN) -> Path:
    """Write an event file of `pieces` to `folder`, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{begun}.host.1.0"
    path.write_bytes(b"".join(pieces))
    return path


def records(folder: Path) -> list[Record]:
    """Return the records of the journal in a run's folder."""
    with JournalReader(folder) as reader:
        return list(reader.records())


def imported(source: Path, base: Path, **options: Any) -> list[Record]:
    """Import `source` as a run, and return its records."""
    run = import_run(source, base=base, **options)
    assert run is not None
    return records(run.folder)


def steps(found: Iterable[Record]) -> list[int | None]:
    return [record.step for record in found if isinstance(record, Scalar)]


def as_in_files(record: Any) -> Any:
    """Return a captured record without data that no event file has.

    These are: float64; a missing step; the ints, bools and None of hyper-parameters; the time of an embedding.
    """
    match record:
        case Params(values=values):
            floats = {name: float(value) if isinstance(value, int) else value for name, value in values.items()}
            stored = {name: value for name, value in floats.items() if value is not None}
            # By repr: 1.0 == 1 == True.
            return msgspec.structs.replace(record, values=repr(sorted(stored.items())))
        case Scalar(value=value, step=step):
            return msgspec.structs.replace(record, value=float(np.float32(value)), step=step or 0)
        case Embedding(step=step):
            return msgspec.structs.replace(record, wall_time=0.0, step=step or 0)
    return msgspec.structs.replace(record, step=record.step or 0)
