"""Track the tasks of Flyte with any backend. `pip install 'tracelet[flyte]'`.

The names with `wandb` are those of the wandb plugin for Flyte; `track`, `run_config` and `get_run` are the same for
every backend.
"""

from __future__ import annotations

from tracelet.distributed.launchers import get_distributed_info
from tracelet.integrations.flyte.context import (
    get_wandb_context,
    get_wandb_sweep_context,
    run_config,
    wandb_config,
    wandb_sweep_config,
)
from tracelet.integrations.flyte.current import get_run, get_wandb_run, get_wandb_run_dir, get_wandb_sweep_id
from tracelet.integrations.flyte.decorator import track, wandb_init
from tracelet.integrations.flyte.downloads import (
    download_wandb_run_dir,
    download_wandb_run_logs,
    download_wandb_sweep_dirs,
    download_wandb_sweep_logs,
)
from tracelet.integrations.flyte.links import RunLink, Wandb, WandbSweep
from tracelet.integrations.flyte.sweeps import wandb_sweep
from tracelet.settings import RankScope, RunMode

__all__ = [
    "RankScope",
    "RunLink",
    "RunMode",
    "Wandb",
    "WandbSweep",
    "download_wandb_run_dir",
    "download_wandb_run_logs",
    "download_wandb_sweep_dirs",
    "download_wandb_sweep_logs",
    "get_distributed_info",
    "get_run",
    "get_wandb_context",
    "get_wandb_run",
    "get_wandb_run_dir",
    "get_wandb_sweep_context",
    "get_wandb_sweep_id",
    "run_config",
    "track",
    "wandb_config",
    "wandb_init",
    "wandb_sweep",
    "wandb_sweep_config",
]
