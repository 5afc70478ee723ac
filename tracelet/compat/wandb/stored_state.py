"""Read from its journal what a resumed run continues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracelet.journal.store import JournalReader
from tracelet.records import Definition, Params, Scalar, Summary


def state_of(folder: Path) -> dict[str, Any]:
    """Return the config and the summary of a run, nested again, and the step after its last row.

    The steps of series with an axis of their own are not those of rows.
    """
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    step, with_axis = 0, list[Definition]()
    with JournalReader(folder) as reader:
        for record in reader.records():
            match record:
                case Scalar(tag=tag, value=value):
                    summary[tag] = value
                    if not any(one.matches(tag) or one.step_metric == tag for one in with_axis):
                        step = max(step, (record.step or 0) + 1)
                case Definition(step_metric=str()):
                    with_axis.append(record)
                case Params(values=values):
                    config |= values
                case Summary(values=values):
                    summary |= values
                case _:
                    step = max(step, (getattr(record, "step", None) or 0) + 1)
    return {"config": nested(config), "summary": nested(summary), "step": step}


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Return dotted names as nested dicts. A name that is itself a value keeps its dots."""
    found: dict[str, Any] = {}
    for name, value in flat.items():
        *outer, last = name.split(".")
        target = found
        for part in outer:
            inner = target.setdefault(part, {})
            if not isinstance(inner, dict):
                break
            target = inner
        else:
            if not isinstance(target.get(last), dict):
                target[last] = value
                continue
        found[name] = value
    return found
