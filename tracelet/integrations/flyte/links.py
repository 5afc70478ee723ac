"""Links from a task in Flyte's UI to the page of its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from flyte import Link

from tracelet.integrations.flyte.context import RunConfig, SweepConfig
from tracelet.integrations.flyte.current import SWEEP_KEY
from tracelet.integrations.flyte.identity import Size, base_id
from tracelet.integrations.flyte.names import WANDB, backend_names
from tracelet.integrations.flyte.runs import RUN_KEY
from tracelet.settings import RankScope, RunMode, environment_of

_HOST = "https://wandb.ai"
_ICON = "https://wandb.ai/logo.svg"
_VARIABLES = {"mlflow": "MLFLOW_TRACKING_URI", "clearml": "CLEARML_WEB_HOST", "aim": "AIM_TRACKING_URI"}
"""The variable with the address of a backend's pages."""
_TITLES = {"mlflow": "MLflow", "clearml": "ClearML", "aim": "Aim", "trackio": "Trackio"}


@dataclass
class Wandb(Link):  # type: ignore[misc]
    """A link to the run of a task in W&B, or to the group of its runs.

    Values that are omitted come from the context of the task. Without project and entity, it leads to the host.

    Args:
        host: The server. That of the context wins.
        project: The project.
        entity: The team or user.
        run_mode: As in `wandb_init`.
        rank_scope: As in `wandb_init`.
        id: The id of the run; in a distributed task, the base of its ids.
        name: The title.
    """

    host: str = _HOST
    project: str | None = None
    entity: str | None = None
    run_mode: RunMode = "auto"
    rank_scope: RankScope = "global"
    id: str | None = None
    name: str = "Weights & Biases"
    icon_uri: str | None = _ICON
    _is_distributed: bool = False
    _worker_index: int | None = None
    _nodes: int = 1
    _explicit: tuple[str, ...] = field(default=(), repr=False)
    """Arguments that the decorator has, also with the value of the default."""

    def get_link(
        self,
        run_name: str,
        project: str,
        domain: str,
        context: dict[str, str],
        parent_action_name: str,
        action_name: str,
        pod_name: str,
        **kwargs: Any,
    ) -> str:
        """Return the address of the page. It may hold templates that Flyte fills in."""
        config = RunConfig.from_dict(context or {})
        place = _project_page(config.host or self.host, self.entity or config.entity, self.project or config.project)
        if place is None:
            return str(config.host or self.host).rstrip("/")
        mode, scope = self._chosen("run_mode", "auto", config), self._chosen("rank_scope", "global", config)
        parent = (context or {}).get(RUN_KEY)
        # The id of the context belongs to the first run, not to those of its children.
        given = self.id or (None if parent else config.id)
        base = given or base_id(run_name, action_name, is_distributed=self._is_distributed)
        if self._is_distributed:
            worker = self._worker_of(scope)
            end = "" if worker is None else f"-worker-{worker}"
            return f"{place}/{'groups' if mode == 'new' else 'runs'}/{base}{end}"
        if mode == "new":
            return f"{place}/runs/{base}"
        if parent is None and mode == "shared":
            return place
        return f"{place}/runs/{parent or base}"

    def _chosen(self, name: str, default: str, config: RunConfig) -> str:
        own = str(getattr(self, name))
        return own if own != default or name in self._explicit else getattr(config, name) or own

    def _worker_of(self, scope: str) -> int | None:
        """Return the node to whose run the link leads. If only the context sets the scope, it is the first."""
        if scope != "worker":
            return None
        return 0 if self._worker_index is None and self._nodes > 1 else self._worker_index


@dataclass
class WandbSweep(Link):  # type: ignore[misc]
    """A link to the sweep of a task in W&B, or to the sweeps of the project as long as it has none.

    Values that are omitted come from `wandb_sweep_config`, and then from `wandb_config`.
    """

    host: str = _HOST
    project: str | None = None
    entity: str | None = None
    id: str | None = None
    name: str = "Weights & Biases Sweep"
    icon_uri: str | None = _ICON

    def get_link(
        self,
        run_name: str,
        project: str,
        domain: str,
        context: dict[str, str],
        parent_action_name: str,
        action_name: str,
        pod_name: str,
        **kwargs: Any,
    ) -> str:
        """Return the address of the page."""
        config, sweep = RunConfig.from_dict(context or {}), SweepConfig.from_dict(context or {})
        host = config.host or self.host
        entity = self.entity or sweep.entity or config.entity
        place = _project_page(host, entity, self.project or sweep.project or config.project)
        sweep_id = self.id or (context or {}).get(SWEEP_KEY)
        if place is None:
            return str(host).rstrip("/")
        return f"{place}/sweeps/{sweep_id}" if sweep_id else f"{place}/sweeps"


@dataclass
class RunLink(Link):  # type: ignore[misc]
    """A link to the page of a task's run, for any backend: the run in W&B, else the address of the server.

    It is empty for a backend without pages. Vendors other than W&B give a run its address only when it has begun.

    Args:
        backend: The backend; default: that of the context or of the settings.
        host: The address of the server. That of the context wins; the default is that of the environment.
        name: The title.
        wandb: The link if the backend is W&B.
    """

    backend: str | None = None
    host: str | None = None
    name: str = "Run"
    icon_uri: str | None = ""
    wandb: Wandb = field(default_factory=Wandb)

    def get_link(
        self,
        run_name: str,
        project: str,
        domain: str,
        context: dict[str, str],
        parent_action_name: str,
        action_name: str,
        pod_name: str,
        **kwargs: Any,
    ) -> str:
        """Return the address of the page, or an empty text."""
        config = RunConfig.from_dict(context or {})
        names, _ = backend_names(self.backend or config.decoded().get("backend"), None)
        if WANDB in names:
            where = (run_name, project, domain, context, parent_action_name, action_name, pod_name)
            return self.wandb.get_link(*where, **kwargs)
        host = config.host or config.decoded().get("backend_url") or self.host
        variables = [_VARIABLES[name] for name in names if name in _VARIABLES]
        found = environment_of(variables)
        address = host or next((found[name] for name in variables if name in found), "")
        return str(address) if str(address).startswith(("http://", "https://")) else ""


def links_of(arguments: Mapping[str, Any], default: str | None, size: Size) -> tuple[Link, ...]:
    """Return the links of a task: one, or one for each node whose run is its own."""
    given = {name: value for name, value in arguments.items() if value is not None}
    for name, other in (("run_id", "id"), ("backend_url", "host")):  # the names of `start_logging`
        if name in given:
            given.setdefault(other, given[name])
    fields = {
        name: given[name] for name in ("host", "project", "entity", "run_mode", "rank_scope", "id") if name in given
    }
    own: dict[str, Any] = {"_is_distributed": size.is_distributed, "_nodes": size.nodes, "_explicit": tuple(fields)}
    backend = given.get("backend")
    names, _ = backend_names(backend, None) if backend is not None else ((), [])
    if WANDB in names or (backend is None and default == WANDB):
        if given.get("rank_scope") == "worker" and size.nodes > 1:
            titles = {index: f"{Wandb.name} Worker {index}" for index in range(size.nodes)}
            return tuple(Wandb(**fields, **own, _worker_index=index, name=title) for index, title in titles.items())
        return (Wandb(**fields, **own),)
    if names and not any(name in _TITLES for name in names):
        return ()
    title = next((_TITLES[name] for name in names if name in _TITLES), RunLink.name)
    return (RunLink(backend=",".join(names) or None, host=given.get("host"), name=title, wandb=Wandb(**fields, **own)),)


def _project_page(host: str, entity: str | None, project: str | None) -> str | None:
    if not entity or not project:
        return None
    return f"{host.rstrip('/')}/{quote(entity)}/{quote(project)}"
