"""Select the ranks that log, and the run of each: the table of run modes and rank scopes in docs/distributed.md."""

from __future__ import annotations

import msgspec

from tracelet.distributed.process import Process
from tracelet.settings import RankScope, RunMode


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """The part of one rank in a job."""

    is_silent: bool = False
    suffix: str = ""
    """The end of the id of this rank's run, after the job's base id."""
    group_suffix: str | None = None
    """The end of the group of this rank's run, after the base id; None: it is in no group."""
    label: str | None = None
    """Names this rank in a run that several share."""
    prefix: str = ""
    """Begins its names in such a run."""


def role_of(process: Process | None, mode: RunMode, scope: RankScope) -> Role:
    """Return the role of a process; None stands for the only process of its job."""
    if process is None:
        return Role()
    has_scope = scope == "worker" and process.num_workers > 1
    worker = f"-worker-{process.worker_index}" if has_scope else ""
    rank = process.local_rank if has_scope else process.rank
    match mode:
        case "auto":
            return Role(is_silent=rank != 0, suffix=worker)
        case "new":
            return Role(suffix=f"{worker}-rank-{rank}", group_suffix=worker)
        case "shared":
            has_nodes = process.num_workers > 1
            label = f"worker-{process.worker_index}-rank-{process.local_rank}" if has_nodes else f"rank-{rank}"
            return Role(suffix=worker, label=label, prefix=f"rank-{rank}/" if rank else "")
