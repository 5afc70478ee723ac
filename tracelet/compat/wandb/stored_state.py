"""Read from its journal what a resumed run continues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracelet.compat.wandb.api_data import nested
from tracelet.journal.store import JournalReader
from tracelet.records import Definition, Params, Scalar, Summary, defined_name


def state_of(folder: Path) -> dict[str, Any]:
    """Return the config and the summary of a run, nested again, and the step after its last row.

    The steps of series with an axis of their own are not those of rows.
    """
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    step, axes = 0, dict[str, str | None]()
    with JournalReader(folder) as reader:
        for record in reader.records():
            match record:
                case Scalar(tag=tag, value=value):
                    summary[tag] = value
                    name = defined_name(tag, axes)
                    if tag not in axes.values() and (name is None or axes[name] is None):
                        step = max(step, (record.step or 0) + 1)
                case Definition(tag=tag, step_metric=axis):
                    axes[tag] = axis
                case Params(values=values):
                    config |= values
                case Summary(values=values):
                    summary |= values
                case _:
                    step = max(step, (getattr(record, "step", None) or 0) + 1)
    return {"config": nested(config), "summary": nested(summary), "step": step}
