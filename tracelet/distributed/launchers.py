"""Find this process's rank: from Ray, from an initialised `torch.distributed`, or from its launcher's variables."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tracelet.distributed import ray
from tracelet.distributed.process import Process

Environ = Mapping[str, str]


class _Launcher(msgspec.Struct, frozen=True, kw_only=True):
    """The variables of a launcher. The first two are required; of alternatives, the first that is set counts."""

    rank: str
    world_size: str
    local_rank: tuple[str, ...] = ()
    local_world_size: tuple[str, ...] = ()
    worker_index: tuple[str, ...] = ()
    meeting_point: tuple[str, ...] = ()
    is_active: Callable[[Environ], bool] = lambda environ: True


def _is_slurm_step(environ: Environ) -> bool:
    """Return True in a task of `srun`. A batch script has the job's number of tasks too, but is one process, and so is
    the shell of `srun --pty`."""
    if "SLURM_PTY_PORT" in environ:
        return False
    return (_number(environ, "SLURM_STEP_NUM_TASKS") or 0) > 1 or (_number(environ, "SLURM_PROCID") or 0) > 0


_BATCH_JOBS = ("PBS_JOBID", "LSB_JOBID", "SLURM_JOB_ID")
_LAUNCHERS = (
    # torchrun, Accelerate, DeepSpeed and Ray Train.
    _Launcher(
        rank="RANK",
        world_size="WORLD_SIZE",
        local_rank=("LOCAL_RANK",),
        local_world_size=("LOCAL_WORLD_SIZE", "LOCAL_SIZE"),
        worker_index=("GROUP_RANK", "NODE_RANK", "CROSS_RANK"),
    ),
    _Launcher(
        rank="OMPI_COMM_WORLD_RANK",
        world_size="OMPI_COMM_WORLD_SIZE",
        local_rank=("OMPI_COMM_WORLD_LOCAL_RANK",),
        local_world_size=("OMPI_COMM_WORLD_LOCAL_SIZE",),
        meeting_point=("PMIX_NAMESPACE", *_BATCH_JOBS),
    ),
    _Launcher(
        rank="MV2_COMM_WORLD_RANK",
        world_size="MV2_COMM_WORLD_SIZE",
        local_rank=("MV2_COMM_WORLD_LOCAL_RANK",),
        local_world_size=("MV2_COMM_WORLD_LOCAL_SIZE",),
        meeting_point=_BATCH_JOBS,
    ),
    # MPICH, Intel MPI, Cray PALS.
    _Launcher(
        rank="PMI_RANK",
        world_size="PMI_SIZE",
        local_rank=("PMI_LOCAL_RANK", "MPI_LOCALRANKID", "PALS_LOCAL_RANKID"),
        local_world_size=("PMI_LOCAL_SIZE", "MPI_LOCALNRANKS", "PALS_LOCAL_SIZE"),
        worker_index=("PALS_NODEID",),
        meeting_point=("PALS_APID", *_BATCH_JOBS),
    ),
    _Launcher(
        rank="SLURM_PROCID",
        world_size="SLURM_STEP_NUM_TASKS",
        local_rank=("SLURM_LOCALID",),
        worker_index=("SLURM_NODEID",),
        is_active=_is_slurm_step,
    ),
)


def find_process(environ: Environ | None = None) -> Process | None:
    """Return this process's place in its job, or None if it is the only one.

    A training of Ray counts first, then an initialised `torch.distributed`, then the first launcher whose variables are
    set: a `WORLD_SIZE=1` means one process, also in a job of several tasks.
    """
    environ = os.environ if environ is None else environ
    initialised = _initialised_torch()
    found = ray.train_worker() or _from_variables(environ)
    if initialised is not None:
        rank, world_size = initialised
        if found is None or (found.rank, found.world_size) != (rank, world_size):
            found = _process(environ, _LAUNCHERS[0], rank, world_size)
    return found if found is not None and found.world_size > 1 else None


def get_distributed_info() -> dict[str, int] | None:
    """Return this process's place in a distributed job, or None if the world size is 1.

    It supports torchrun, Accelerate, DeepSpeed, Lightning, Ray Train, SLURM's `srun`, Open MPI, MVAPICH, MPICH, Intel
    MPI and Cray PALS, and a process group that the program initialised with `torch.distributed`.

    Returns:
        `rank` and `world_size` of all processes, `local_rank` and `local_world_size` of those on this node,
        `worker_index` (this node's) and `num_workers` (nodes).
    """
    process = find_process()
    if process is None:
        return None
    names = ("rank", "local_rank", "world_size", "local_world_size", "worker_index", "num_workers")
    return {name: getattr(process, name) for name in names}


def _initialised_torch() -> tuple[int, int] | None:
    distributed = sys.modules.get("torch.distributed")
    is_initialised: Any = getattr(distributed, "is_initialized", None)
    if distributed is None or is_initialised is None or not is_initialised():
        return None
    return distributed.get_rank(), distributed.get_world_size()


def _from_variables(environ: Environ) -> Process | None:
    for launcher in _LAUNCHERS:
        rank, world_size = _number(environ, launcher.rank), _number(environ, launcher.world_size)
        if world_size is not None and launcher.is_active(environ):
            if rank is not None:
                return _process(environ, launcher, rank, world_size) if rank < world_size else None
            if launcher is _LAUNCHERS[0] and "LOCAL_RANK" in environ:
                return _from_lightning(environ, world_size)
    return None


def _from_lightning(environ: Environ, world_size: int) -> Process | None:
    """Return the place of a process that Lightning started: it has no RANK, and no LOCAL_WORLD_SIZE.

    With more than two nodes, the number of its processes on a node is a guess that holds for the last node.
    """
    local_rank, node = _number(environ, "LOCAL_RANK"), _number(environ, "NODE_RANK") or 0
    if local_rank is None:
        return None
    local_world_size = _number(environ, "LOCAL_WORLD_SIZE") or max(1, world_size // (node + 1))
    rank = node * local_world_size + local_rank
    return _process(environ, _LAUNCHERS[0], rank, world_size, local_world_size) if rank < world_size else None


def _process(
    environ: Environ, launcher: _Launcher, rank: int, world_size: int, local_world_size: int | None = None
) -> Process:
    local_world_size = local_world_size or _first_number(environ, launcher.local_world_size) or 0
    if launcher.rank == "SLURM_PROCID":
        local_world_size = _slurm_tasks_here(environ)
    if not 0 < local_world_size <= world_size:
        local_world_size = world_size
    local_rank = _first_number(environ, launcher.local_rank)
    worker_index = _first_number(environ, launcher.worker_index)
    address = ":".join(environ[name] for name in ("MASTER_ADDR", "MASTER_PORT") if environ.get(name))
    return Process(
        rank=rank,
        world_size=world_size,
        local_rank=rank % local_world_size if local_rank is None else local_rank,
        local_world_size=local_world_size,
        worker_index=rank // local_world_size if worker_index is None else worker_index,
        job_id=_job_id(environ, launcher),
        variable=launcher.rank if launcher.rank in environ else "LOCAL_RANK",
        meeting_point=address or next((environ[name] for name in launcher.meeting_point if environ.get(name)), None),
    )


def _slurm_tasks_here(environ: Environ) -> int:
    """Return the number of this step's tasks on this node, from a text like `4(x2),3`."""
    node = _number(environ, "SLURM_NODEID") or 0
    for part in environ.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if match is None:
            return 0
        node -= int(match[2] or 1)
        if node < 0:
            return int(match[1])
    return 0


def _job_id(environ: Environ, launcher: _Launcher) -> str | None:
    elastic = environ.get("TORCHELASTIC_RUN_ID", "none")
    if launcher.rank == "RANK" and elastic not in ("", "none"):  # torchrun's default
        return elastic
    if launcher.rank == "SLURM_PROCID" and environ.get("SLURM_STEP_ID") and environ.get("SLURM_JOB_ID"):
        return f"slurm-{environ['SLURM_JOB_ID']}.{environ['SLURM_STEP_ID']}"
    return None


def _first_number(environ: Environ, names: tuple[str, ...]) -> int | None:
    return next((number for name in names if (number := _number(environ, name)) is not None), None)


def _number(environ: Environ, name: str) -> int | None:
    """Return a variable that is a whole number of 0 or more, else None."""
    text = environ.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
