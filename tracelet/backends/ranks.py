"""Describe a separate vendor run for each rank of a shared run, for vendors whose runs have one writer."""

from __future__ import annotations

import msgspec

from tracelet.records import RunInfo


def own_run(run: RunInfo) -> RunInfo:
    """Return the description of this rank's own vendor run, in a group with those of the other ranks."""
    if run.label is None:
        return run
    group = run.group or run.run_id
    if run.is_primary:
        return msgspec.structs.replace(run, group=group)
    name = run.name and f"{run.name} {run.label}"
    return msgspec.structs.replace(run, run_id=f"{run.run_id}-{run.label}", name=name, group=group)
