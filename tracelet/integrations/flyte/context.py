"""Arguments for all tasks of a Flyte run: they travel in Flyte's custom context, a mapping of texts.

Keys begin with `wandb_`, also for other backends, so that contexts of the wandb plugin for Flyte stay valid.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import flyte

from tracelet.errors import ConfigurationError, suggest
from tracelet.integrations.flyte.names import RANK_SCOPES, RUN_MODES, canonical, check_choice
from tracelet.settings import RankScope, RunMode

C = TypeVar("C", bound="_Config")

_PREFIX, _SWEEP_PREFIX = "wandb_", "wandb_sweep_"
_SECRET = "api_key"
_TEXTS = frozenset(
    (
        "project",
        "entity",
        "host",
        "id",
        "name",
        "mode",
        "group",
        "run_mode",
        "rank_scope",
        "method",
        "notes",
        "job_type",
    )
)
"""Arguments that are texts. Their values stay as they are: `"123"` is a name, not a number."""


class _Config(dict[str, str]):
    """A mapping for `custom_context`, and a context manager for tasks that are called in its block.

    Each argument is also an attribute with its own type. `kwargs` has those without a parameter of their own, or is
    None. In a task, a key that is set or removed changes in the context of the task too, as in the plugin.
    """

    _prefix: ClassVar[str]
    _not_prefix: ClassVar[str | None] = None
    _fields: ClassVar[tuple[str, ...]]
    _defaults: ClassVar[Mapping[str, Any]] = {"download_logs": False}
    """Attributes that were omitted. They are not in the mapping, where they would win over an outer block."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        for name, value in (values or {}).items():
            self._put(name, value)
        self._blocks: list[contextlib.ExitStack] = []

    @classmethod
    def from_dict(cls: type[C], context: Mapping[str, str]) -> C:
        """Return the part of a custom context that belongs to this class."""
        config = cls()
        for key, text in context.items():
            if key.startswith(cls._prefix) and not (cls._not_prefix and key.startswith(cls._not_prefix)):
                super().__setitem__(config, key, text)
        return config

    def to_dict(self) -> dict[str, str]:
        return dict(self)

    def decoded(self) -> dict[str, Any]:
        """Return all arguments with their own types."""
        names = {key: key.removeprefix(self._prefix) for key in self}
        values = {name: _decoded(name, self[key]) for key, name in names.items()}
        return {**values.pop("kwargs", {}), **values}  # the plugin has all others below one key

    @property
    def kwargs(self) -> dict[str, Any] | None:
        return {name: value for name, value in self.decoded().items() if name not in self._fields} or None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not (name in self._fields or self._prefix + name in self):
            raise AttributeError(f"{type(self).__name__} has no argument {name!r}. {suggest(name, self._fields)}")
        text = self.get(self._prefix + name)
        return self._defaults.get(name) if text is None else _decoded(name, text)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._fields:
            self._put(name, value)
        else:
            super().__setattr__(name, value)

    def _put(self, name: str, value: Any) -> None:
        if value is None:
            super().pop(self._prefix + name, None)
        else:
            super().__setitem__(self._prefix + name, _encoded(name, value))

    def __setitem__(self, key: str, text: str) -> None:
        self.update({key: text})

    def __delitem__(self, key: str) -> None:
        if self.pop(key) is None:
            raise KeyError(key)

    def pop(self, key: str, default: Any = None) -> Any:
        own = super().pop(key, default)
        return dict.pop(_changeable_context(), key, own)  # the context may be a config itself

    def update(self, *args: Any, **kwargs: str) -> None:
        texts = dict(*args, **kwargs)
        super().update(texts)
        if context := _changeable_context():
            dict.update(context, texts)

    def __enter__(self: C) -> C:
        """Give the arguments to tasks that are called in this block, beside those of outer blocks."""
        block = contextlib.ExitStack()
        block.enter_context(flyte.custom_context(**self))
        self._blocks.append(block)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.pop().__exit__(kind, error, trace)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (dict(self),)


class RunConfig(_Config):
    """The arguments of `wandb_config` or `run_config`."""

    _prefix, _not_prefix = _PREFIX, _SWEEP_PREFIX
    _fields = (
        *("project", "entity", "host", "id", "name", "tags", "config", "mode", "group"),
        *("run_mode", "rank_scope", "download_logs"),
    )
    _defaults: ClassVar[Mapping[str, Any]] = {"run_mode": "auto", "rank_scope": "global", "download_logs": False}


class SweepConfig(_Config):
    """The arguments of `wandb_sweep_config`."""

    _prefix = _SWEEP_PREFIX
    _fields = ("method", "metric", "parameters", "project", "entity", "prior_runs", "name", "download_logs")

    def to_sweep_config(self) -> dict[str, Any]:
        """Return the first argument of `wandb.sweep`."""
        outside = ("project", "entity", "prior_runs", "download_logs")
        return {name: value for name, value in self.decoded().items() if name not in outside}


def wandb_config(
    project: str | None = None,
    entity: str | None = None,
    host: str | None = None,
    id: str | None = None,
    name: str | None = None,
    tags: Sequence[str] | None = None,
    config: Mapping[str, Any] | None = None,
    mode: str | None = None,
    group: str | None = None,
    run_mode: RunMode | None = None,
    rank_scope: RankScope | None = None,
    download_logs: bool | None = None,
    **kwargs: Any,
) -> RunConfig:
    """Return arguments for all tasks of a Flyte run: `custom_context=wandb_config(...)`, or `with wandb_config(...):`.

    Args:
        project: The project of the runs.
        entity: The team or user in W&B.
        host: The address of the W&B server.
        id: The id of the run; in a distributed task, the base of its ids.
        name: The name of the run.
        tags: Tags of the run.
        config: Parameters of the run, such as `{"lr": 0.1}`.
        mode: As in `wandb.init`: online, offline, disabled or shared.
        group: The group of the run.
        run_mode: `auto`, `new` or `shared`; see `wandb_init`.
        rank_scope: `global` or `worker`; see `wandb_init`.
        download_logs: True: attach the run's files to the task when it has finished.
        kwargs: Other arguments of `wandb_init`.

    Raises:
        ConfigurationError: a value is not plain data, or is a credential: everybody sees a context in Flyte's UI.
    """
    given = {name: value for name, value in locals().items() if name != "kwargs"}
    return _run_config({**given, **kwargs})


def run_config(**arguments: Any) -> RunConfig:
    """Return arguments for all tasks of a Flyte run, as `wandb_config`, but with those of `track`."""
    return _run_config(canonical(arguments))


def _run_config(values: Mapping[str, Any]) -> RunConfig:
    check_choice("run_mode", values.get("run_mode"), RUN_MODES)
    check_choice("rank_scope", values.get("rank_scope"), RANK_SCOPES)
    return RunConfig(values)


def wandb_sweep_config(
    method: str | None = None,
    metric: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    project: str | None = None,
    entity: str | None = None,
    prior_runs: Sequence[str] | None = None,
    name: str | None = None,
    download_logs: bool | None = None,
    **kwargs: Any,
) -> SweepConfig:
    """Return the configuration of the sweep of a `wandb_sweep` task, for `custom_context` or `with`.

    Args:
        method: `grid`, `random` or `bayes`.
        metric: The metric to optimize: `{"name": "loss", "goal": "minimize"}`.
        parameters: The parameters to search.
        project: The project of the sweep; default: that of `wandb_config`.
        entity: The team or user; default: that of `wandb_config`.
        prior_runs: Ids of runs that belong to the sweep from its begin.
        name: The name of the sweep; default: `{run_name}-{action_name}`.
        download_logs: True: attach the files of all runs to the task when it has finished.
        kwargs: Other keys of W&B's sweep configuration.

    Raises:
        ConfigurationError: a value is not plain data.
    """
    given = {name: value for name, value in locals().items() if name != "kwargs"}
    return SweepConfig({**given, **kwargs})


def get_wandb_context() -> RunConfig | None:
    """Return the arguments in the context of the current task, or None if it has neither these nor a sweep's."""
    context = task_context()
    return RunConfig.from_dict(context) if any(key.startswith(_PREFIX) for key in context) else None


def get_wandb_sweep_context() -> SweepConfig | None:
    """Return the sweep configuration in the context of the current task, or None if there is none."""
    return SweepConfig.from_dict(task_context()) or None


def task_context() -> dict[str, str]:
    """Return the custom context of the current task; empty outside of tasks."""
    return dict(_changeable_context())


def _changeable_context() -> dict[str, str]:
    task = flyte.ctx()
    return (task.custom_context or {}) if task else {}


def _encoded(name: str, value: Any) -> str:
    if name == _SECRET or (isinstance(value, Mapping) and _SECRET in value):
        raise ConfigurationError(
            "api_key must not be in a context, which Flyte's UI shows. Use flyte.Secret(key=..., as_env_var=...)"
        )
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if name in _TEXTS:
        if not isinstance(value, str):
            raise ConfigurationError(f"{name} must be text, got {value!r}")
        return value
    if isinstance(value, str) and not _is_json(value):
        return value
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name} must be JSON-serializable: {error}") from None


def _decoded(name: str, text: str) -> Any:
    return json.loads(text) if name not in _TEXTS and _is_json(text) else text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
