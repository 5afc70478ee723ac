"""Add to the W&B stand-in what its public API and its sweeps ask: runs, files, history, sweeps and agents."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from backends.wandb_server import ENTITY, HISTORY, ServerRun, WandbServer

_TIME = "2026-01-01T00:00:00Z"
_END = {"endCursor": None, "hasNextPage": False}


@dataclass
class ServerSweep:
    """Hold a sweep, the trials that no agent has yet, and the runs of the others."""

    name: str
    config: dict[str, Any]
    trials: Iterator[dict[str, Any]]
    variables: dict[str, Any]
    runs: list[str] = field(default_factory=list)


class PublicServer(WandbServer):
    """Serve past runs too, and give the trials of grid searches to agents, one at each heartbeat."""

    def __init__(self) -> None:
        super().__init__()
        self.sweeps: dict[str, ServerSweep] = {}
        self.agents: dict[str, ServerSweep] = {}

    # Runs.

    def _GetDefaultEntity(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "u", "entity": ENTITY}}

    def _Run(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        return {"project": {"run": None if run is None else self._node(run)}}

    def _Runs(self, variables: dict[str, Any]) -> dict[str, Any]:
        (condition,) = json.loads(variables["filters"])["$and"]
        sweep = self.sweeps[condition["sweep"]]
        edges = [{"node": self._node(self.runs[name]), "cursor": name} for name in sweep.runs if name in self.runs]
        runs = {"edges": edges, "pageInfo": _END}
        return {"project": {"internalId": "1", "runCount": len(edges), "readOnly": False, "runs": runs}}

    def _node(self, run: ServerRun) -> dict[str, Any]:
        rows = _rows(run)
        return {
            **dict.fromkeys(("commit", "heartbeatAt", "description", "notes", "systemMetrics", "sweepName")),
            "projectId": "1",
            "id": run.id,
            "name": run.id,
            "displayName": run.id,
            "tags": [],
            "state": "finished",
            "config": json.dumps(run.config),
            "group": run.attributes.get("groupName"),
            "jobType": None,
            "readOnly": False,
            "createdAt": _TIME,
            "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(rows),
            "user": {"name": "me", "username": "me"},
            "historyKeys": None,
        }

    def _RunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[variables["name"]]
        edges = []
        for name, path in run.files.items():
            url, size = self._address(path), str(len(self.stored.get(path, b"")))
            file = {"id": name, "name": name, "url": url, "directUrl": url, "sizeBytes": size, "mimetype": ""}
            edges.append({"node": file | {"updatedAt": _TIME, "md5": ""}, "cursor": name})
        files = {"edges": edges, "pageInfo": _END}
        return {"project": {"internalId": "1", "run": {"fileCount": len(edges), "files": files}}}

    def _RunHistoryKeys(self, variables: dict[str, Any]) -> dict[str, Any]:
        rows = _rows(self.runs[variables["name"]])
        keys: dict[str, Any] = {key: {} for row in rows for key in row}
        return {"project": {"run": {"historyKeys": {"keys": keys, "lastStep": rows[-1]["_step"] if rows else -1}}}}

    def _RunParquetHistory(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": []}}}}

    def _HistoryPage(self, variables: dict[str, Any]) -> dict[str, Any]:
        rows = _rows(self.runs[variables["run"]])
        steps = range(variables["minStep"], variables["maxStep"])
        page = [json.dumps(row) for row in rows if row["_step"] in steps][: variables["pageSize"]]
        return {"project": {"run": {"history": page}}}

    # Sweeps.

    def _UpsertSweep(self, variables: dict[str, Any]) -> dict[str, Any]:
        config = yaml.safe_load(variables["config"])
        name = f"sweep{len(self.sweeps) + 1}"
        names = list(config["parameters"])
        found = config["parameters"]
        values = [found[parameter].get("values", [found[parameter].get("min")]) for parameter in names]
        trials = (dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*values))
        self.sweeps[name] = ServerSweep(name, config, trials, variables)
        project = {"id": "p", "name": variables["projectName"], "entity": {"id": "e", "name": ENTITY}}
        return {"upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}}

    def _GetSweep(self, variables: dict[str, Any]) -> dict[str, Any]:
        sweep = self.sweeps.get(variables["name"])
        if sweep is None:
            return {"project": None}
        found = {"__typename": "Sweep", "id": sweep.name, "name": sweep.name, "config": json.dumps(sweep.config)}
        return {"project": {"sweep": {**found, "state": "FINISHED", "runCount": len(sweep.runs)}}}

    def _CreateAgent(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = f"agent{len(self.agents) + 1}"
        self.agents[name] = self.sweeps[variables["sweep"]]
        return {"createAgent": {"agent": {"id": name}}}

    def _Heartbeat(self, variables: dict[str, Any]) -> dict[str, Any]:
        sweep = self.agents[variables["id"]]
        commands: list[dict[str, Any]] = []
        if not json.loads(variables["runState"]):
            trial = next(sweep.trials, None)
            if trial is None:
                commands.append({"type": "exit"})
            else:
                run_id = f"{sweep.name}-trial{len(sweep.runs) + 1}"
                sweep.runs.append(run_id)
                arguments = {name: {"value": value} for name, value in trial.items()}
                commands.append({"type": "run", "run_id": run_id, "args": arguments})
        return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}


def _rows(run: ServerRun) -> list[dict[str, Any]]:
    """Return the history with wandb's own step."""
    lines = run.streams.get(HISTORY, {})
    return [{"_step": number, **json.loads(lines[number])} for number in sorted(lines)]
