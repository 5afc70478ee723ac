"""Rename the records of one of the processes that share a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tracelet.records import Alert, Artifact, Definition, Params, Record, Scalar, Summary, Tags


def labeller(prefix: str) -> Callable[[Record], Record]:
    """Return a function that puts a prefix such as `rank-1/` before the names in a record.

    That covers series, writers, parameters, the summary, and the paths of artifacts. Tags, alerts and a vendor's own
    artifacts stay: they belong to the whole run.
    """
    replace = msgspec.structs.replace

    def writer(name: str) -> str:
        return prefix + name if name else prefix[:-1]

    def labelled(record: Record) -> Record:
        match record:
            case Scalar(tag, value, step, wall_time, name):  # most records
                return Scalar(prefix + tag, value, step, wall_time, writer(name))
            case Params(values=values, writer=name):
                return replace(record, values=_prefixed(prefix, values), writer=writer(name))
            case Summary(values=values):
                return replace(record, values=_prefixed(prefix, values))
            case Artifact(name=name, type="file"):
                return replace(record, name=prefix + name)
            case Definition(tag=tag, step_metric=axis):
                return replace(record, tag=prefix + tag, step_metric=prefix + axis if axis else axis)
            case Artifact() | Tags() | Alert():
                return record
            case _:
                return replace(record, tag=prefix + record.tag, writer=writer(record.writer))

    return labelled


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in values.items()}
