"""Event files made byte for byte, and journals read back."""

import msgspec
import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from tracelet.importer import import_run
from tracelet.journal.store import JournalReader
from tracelet.records import Embedding, Params, Scalar

BEGUN = 1_700_000_000


def framed(data):
    """One record as TensorBoard frames it, with TensorBoard's own checksum."""
    length = len(data).to_bytes(8, "little")
    sums = (masked_crc32c(part).to_bytes(4, "little") for part in (length, data))
    return length + next(sums) + data + next(sums)


def event(step, value=0.5, tag="loss", wall_time=None):
    made = Event(step=step, wall_time=BEGUN + step if wall_time is None else wall_time)
    made.summary.value.add(tag=tag, simple_value=value)
    return framed(made.SerializeToString())


def write(folder, *pieces, begun=BEGUN):
    """The path of an event file of `pieces` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{begun}.host.1.0"
    path.write_bytes(b"".join(pieces))
    return path


def records(folder):
    """What the journal in a run's folder holds."""
    with JournalReader(folder) as reader:
        return list(reader.records())


def imported(source, base, **more):
    """The records of the run that `source` becomes."""
    return records(import_run(source, base=base, **more).folder)


def steps(found):
    return [one.step for one in found if isinstance(one, Scalar)]


def as_in_files(record):
    """A record of live capture without what no event file holds: float64, a step that was not given, the ints, bools
    and None of hyper-parameters, the moment of an embedding."""
    match record:
        case Params(values=values):
            told = {name: float(one) if isinstance(one, int) else one for name, one in values.items()}
            told = {name: one for name, one in told.items() if one is not None}
            # By repr: 1.0 == 1 == True.
            return msgspec.structs.replace(record, values=repr(sorted(told.items())))
        case Scalar(value=value, step=step):
            return msgspec.structs.replace(record, value=float(np.float32(value)), step=step or 0)
        case Embedding(step=step):
            return msgspec.structs.replace(record, wall_time=0.0, step=step or 0)
    return msgspec.structs.replace(record, step=record.step or 0)
