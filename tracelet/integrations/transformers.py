"""`TraceletCallback` for the Trainer of Hugging Face Transformers.

Not needed with `report_to="tensorboard"`, which is captured. With both, every point arrives twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback
from transformers.integrations.integration_utils import rewrite_logs

from tracelet.backends.base import Backend
from tracelet.integrations.hook import HookRun, is_silent


class TraceletCallback(TrainerCallback):  # type: ignore[misc]
    """Log to the active run, or start one with these arguments.

    Metrics have the names of the Trainer's TensorBoardCallback (`train/loss`, `eval/loss`); steps are
    `state.global_step`. The training arguments become parameters, and the model's configuration parameters below
    `model`. A run that the callback started ends with the program, with `tracelet.stop_logging()`, or when another
    callback starts one. `evaluate` after `train` uses the same run. Each trial of a search is a separate run.

    Args:
        exp_name: The run's name; default: `TrainingArguments.run_name`, or the name of the trial.
        project: The run's project.
        backend: As in `start_logging`.
        arguments: Other arguments of `start_logging`.
    """

    def __init__(
        self,
        exp_name: str | None = None,
        project: str | None = None,
        backend: str | Backend | Sequence[str | Backend] | None = None,
        **arguments: Any,
    ) -> None:
        own = {"exp_name": exp_name, "project": project, "backend": backend}
        self._run = HookRun("TraceletCallback", own | arguments)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Start a run if none is active, and log the parameters."""
        if is_silent(state.is_world_process_zero):
            return
        if args.run_name != args.output_dir:  # the default name in older releases
            self._run.default_name = args.run_name
        if state.is_hyper_param_search:
            self._run.leave()
            self._run.default_name = state.trial_name or self._run.default_name
        config = getattr(model, "config", None)
        params = dict(args.to_dict())
        if config is not None:
            params["model"] = config.to_dict() if hasattr(config, "to_dict") else config
        self._run.experiment.log_params(params)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Log the Trainer's values."""
        if logs and not is_silent(state.is_world_process_zero):
            self._run.log(rewrite_logs(logs), state.global_step)
