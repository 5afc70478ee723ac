"""Collect facts about the interpreter, packages, machine and job. Only the environment variables in `JOB` are read."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

from tracelet.collectors.arguments import redacted
from tracelet.collectors.base import Collected
from tracelet.collectors.nvml import Gpus
from tracelet.settings import environment_of

JOB = (
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_NNODES",
    "SLURM_NODEID",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "PBS_JOBID",
    "LSB_JOBID",
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "WORLD_SIZE",
    "RANK",
    "LOCAL_WORLD_SIZE",
    "LOCAL_RANK",
    "GROUP_RANK",
    "CUDA_VISIBLE_DEVICES",
)
"""The variables that are recorded, if they are set."""

_NAME = re.compile(r"^Name:\s*(\S+)", re.MULTILINE)
_VERSION = re.compile(r"^Version:\s*(\S+)", re.MULTILINE)
_CONTAINER = re.compile(r"(?:docker|containerd|crio|libpod|kubepods|containers)\b.*?\b([0-9a-f]{64})\b")
_MOUNTED = re.compile(r"containers/([0-9a-f]{64})/")


def read() -> Collected:
    """Collect all facts, except those that this machine does not have."""
    gpus = Gpus()
    try:
        facts: dict[str, Any] = {
            "python": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
            "argv": redacted([str(argument) for argument in sys.argv]),
            "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
            "distribution": _distribution(),
            "hostname": platform.node(),
            "cpus": os.cpu_count(),
            "cpus_allowed": _cpus_allowed(),
            "memory_bytes": _memory(),
            "gpus": gpus.names(),
            "gpu_driver": gpus.driver(),
            "container": container(),
            "job": {name: value for name, value in environment_of(JOB).items() if value},
            "packages": packages(),
        }
    finally:
        gpus.close()
    known = {name: value for name, value in facts.items() if value not in (None, "", {}, [])}
    return Collected(facts={"environment": known})


def packages() -> dict[str, str]:
    """Return each installed distribution and its version; if there are several, the importable one."""
    versions: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        try:
            # Search two lines only: Python's full parser of this file would take CPU time from the training.
            text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        except (OSError, UnicodeDecodeError):  # half removed; continue with the others
            continue
        name, version = _NAME.search(text), _VERSION.search(text)
        if name and version:
            versions.setdefault(name[1], version[1])
    return dict(sorted(versions.items(), key=lambda item: item[0].lower()))


def container(folder: Path = Path("/proc/self")) -> str | None:
    """Return the id of this process's container, if the kernel shows it."""
    for name, pattern in (("cgroup", _CONTAINER), ("mountinfo", _MOUNTED)):
        try:
            match = pattern.search((folder / name).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if match:
            return match[1]
    return None


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _cpus_allowed() -> int | None:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
