"""Describe a process of a job, and a job of one process."""

from __future__ import annotations

import msgspec


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a job with several. A worker is a node: it has `local_world_size` of the processes."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    worker_index: int
    job_id: str | None = None
    """The launcher's id of the job, the same in all its processes and after an elastic restart; None if it has none."""
    variable: str | None = None
    """A variable that the launcher sets in its processes and not in its own."""
    meeting_point: str | None = None
    """A text that is the same in all processes of a job, but not always new for each job."""

    @property
    def num_workers(self) -> int:
        return max(1, self.world_size // self.local_world_size)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job of one process that its launcher has named."""

    job_id: str
    group: str | None = None
