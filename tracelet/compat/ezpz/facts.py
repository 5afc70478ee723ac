"""Facts about the process that ezpz's tracker logs beside the config."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from tracelet.compat.ezpz.environment import variable
from tracelet.distributed.launchers import find_process
from tracelet.guard import attempted
from tracelet.version import __version__

_SCHEDULERS = {"PBS": "PBS_JOBID", "SLURM": "SLURM_JOB_ID", "LSF": "LSB_JOBID"}


def run_facts() -> dict[str, Any]:
    """Return the facts that have a name of their own in wandb's config."""
    process = find_process()
    scheduler = next((name for name, job in _SCHEDULERS.items() if variable(job)), None)
    facts = {
        "hostname": platform.node(),
        "torch_version": _torch_version(),
        "ezpz_version": _version("ezpz") or f"tracelet {__version__}",
        "working_directory": _working_directory(),
        "world_size": 1 if process is None else process.world_size,
        "machine": platform.node().rstrip("0123456789-") or None,
        "scheduler": scheduler,
        "jobid": variable(*_SCHEDULERS.values()),
    }
    return {name: value for name, value in facts.items() if value is not None}


def process_facts() -> dict[str, Any]:
    """Return the other facts, with the prefix that they have in every backend."""
    process = find_process()
    now = time.localtime()
    facts = {
        "device": _device(),
        "backend": _distributed_backend(),
        "rank": 0 if process is None else process.rank,
        "local_rank": 0 if process is None else process.local_rank,
        "timestamp": time.strftime("%Y-%m-%d-%H%M%S", now),
        "date": time.strftime("%Y-%m-%d", now),
        "year": now.tm_year,
        "month": now.tm_mon,
        "day": now.tm_mday,
        "python_version": platform.python_version(),
        "command": shlex.join(map(str, sys.argv)),
        "git_branch": _git_branch(),
    }
    return {f"ezpz.{name}": value for name, value in facts.items() if value is not None}


def _version(package: str) -> str | None:
    return attempted(lambda: metadata.version(package), lambda: None)


def _torch_version() -> str | None:
    torch: Any = sys.modules.get("torch")
    return _version("torch") if torch is None else attempted(lambda: str(torch.__version__), lambda: None)


def _working_directory() -> str | None:
    with contextlib.suppress(OSError):
        return os.getcwd()
    return None


def _device() -> str:
    """Return the kind of accelerator, without importing torch or starting one."""
    torch: Any = sys.modules.get("torch")
    for kind in ("cuda", "xpu", "mps"):
        module = getattr(torch, kind, None)
        if module is not None and attempted(module.is_available, lambda: False):
            return kind
    return "cpu"


def _distributed_backend() -> str | None:
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not attempted(distributed.is_initialized, lambda: False):
        return None
    return attempted(lambda: str(distributed.get_backend()), lambda: None)


def _git_branch() -> str | None:
    with contextlib.suppress(OSError):
        folder = Path.cwd()
        for place in (folder, *folder.parents):
            head = place / ".git" / "HEAD"
            if head.is_file():
                return head.read_text(encoding="utf-8", errors="replace").strip().removeprefix("ref: refs/heads/")
    return None
