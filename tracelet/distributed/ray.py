"""Ask Ray for the place of a Ray Train worker, and for the trial of Ray Tune. This module does not import Ray."""

from __future__ import annotations

import sys
from typing import Any

from tracelet.distributed.process import Job, Process


def train_worker() -> Process | None:
    """Return the place of this process in a training of Ray Train, or None if it is in none."""
    context = _train_context()
    if context is None:
        return None
    return Process(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        local_rank=context.get_local_rank(),
        local_world_size=context.get_local_world_size(),
        worker_index=context.get_node_rank(),
        job_id=context.get_experiment_name(),
    )


def find_job() -> Job | None:
    """Return the trial of Ray Tune, or the training of Ray Train with one worker, that this process runs."""
    session = _session()
    if session is not None and session.world_rank is None:
        return Job(job_id=session.trial_info.id, group=session.trial_info.experiment_name)
    context = _train_context()
    return None if context is None else Job(job_id=context.get_experiment_name())


def _train_context() -> Any:
    train: Any = sys.modules.get("ray.train")
    if train is None:
        return None
    session = _session()
    if session is not None:  # the former Ray Train, or a trial
        return None if session.world_rank is None else train.get_context()
    try:
        context = train.get_context()
    except RuntimeError:  # outside a training
        return None
    return context if ".v2." in type(context).__module__ else None  # the former one would warn, outside a training


def _session() -> Any:
    """Return Ray's session of a trial, or of a training of the former Ray Train."""
    module: Any = sys.modules.get("ray.train._internal.session")
    return None if module is None else module.get_session()
