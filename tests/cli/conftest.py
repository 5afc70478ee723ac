"""Real runs in a temporary folder, and the command line called as a shell would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

import tracelet
from tracelet.cli import app

Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """`call("runs", width=60)`: the command line, with `tmp_path` for its runs."""
    monkeypatch.setenv("TRACELET_DIR", str(tmp_path))

    def call(*arguments: object, width: int = 160) -> Result:
        return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": str(width)})

    return call


@pytest.fixture
def finished_run(tmp_path: Path) -> Callable[..., tracelet.Experiment]:
    """`finished_run(points, ...)`: a run that logged `points`, {name: values}, and ended."""

    def make(points: dict[str, list[float]], **arguments: Any) -> tracelet.Experiment:
        with tracelet.start_logging(**{"dir": tmp_path, "backend": "csv", **arguments}) as experiment:
            for name, values in points.items():
                for step, value in enumerate(values):
                    experiment.log_metric(name, value, step)
        return experiment

    return make
