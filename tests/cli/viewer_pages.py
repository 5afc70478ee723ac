"""Run `tracelet view`, and ask the HTTP interface of each vendor's viewer for a series."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

START, END = 120, 30
"""Seconds until a viewer answers on a busy machine, and until it has ended."""
Points = list[tuple[int, float]]


class View:
    """A running `tracelet view` and its processes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.lines, self.url = process, list[str](), ""
        self._is_ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self) -> None:
        """Wait until the viewer answers and the first delivery is complete."""
        assert self._is_ready.wait(START), self.lines
        assert self.url, self.lines

    def _read(self) -> None:
        """Read to the end of the output."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.match(r"Viewer: (\S+)", line):
                self.url = found[1]
            if "new records" in line:
                self._is_ready.set()
        self._is_ready.set()

    def processes(self) -> list[psutil.Process]:
        return _family(self.process.pid)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(END)


@contextlib.contextmanager
def viewing(*arguments: object, cwd: Path) -> Iterator[View]:
    """Run `tracelet view` in a folder until the end of the block."""
    command = [sys.executable, "-m", "tracelet", "view", *map(str, arguments)]
    pipe, environment = subprocess.PIPE, {**os.environ, "COLUMNS": "500"}
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as process:
        with killed(process):
            yield View(process)


@contextlib.contextmanager
def killed(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Kill a process and its children after the block, if it has not ended."""
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for left in _family(process.pid):
                left.kill()


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _ask(url: str, question: Any = None) -> Any:
    data = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def _tensorboard(url: str, project: str, run: str, tag: str) -> Points:
    if tag not in _ask(f"{url}data/plugin/scalars/tags").get(f"{project}/{run}", {}):
        return []
    found = _ask(f"{url}data/plugin/scalars/scalars?tag={quote(tag)}&run={quote(f'{project}/{run}', safe='')}")
    return [(step, value) for _, step, value in found]


def _trackio(url: str, project: str, run: str, tag: str) -> Points:
    question = {"project": project, "run": run, "metric_name": tag}
    return [(point["step"], point["value"]) for point in _ask(f"{url}api/get_metric_values", question)["data"]]


def _mlflow(url: str, project: str, run: str, tag: str) -> Points:
    api = f"{url}api/2.0/mlflow"
    experiment = _ask(f"{api}/experiments/get-by-name?experiment_name={project}")["experiment"]["experiment_id"]
    runs = _ask(f"{api}/runs/search", {"experiment_ids": [experiment]})["runs"]
    ids = [found["info"]["run_id"] for found in runs if found["info"]["run_name"] == run]
    found = _ask(f"{api}/metrics/get-history?run_id={ids[0]}&metric_key={quote(tag)}")["metrics"] if ids else []
    return [(int(point["step"]), point["value"]) for point in found]


def _aim(url: str, project: str, run: str, tag: str) -> Points:
    experiments = [found["id"] for found in _ask(f"{url}api/experiments/") if found["name"] == project]
    runs = _ask(f"{url}api/experiments/{experiments[0]}/runs/")["runs"] if experiments else []
    answers = [
        _ask(f"{url}api/runs/{found['run_id']}/metric/get-batch/", [{"name": tag, "context": {}}])
        for found in runs
        if found["name"] == run
    ]
    return [
        (round(step), value)
        for answer in answers
        for series in answer
        for step, value in zip(series["iters"], series["values"], strict=True)
    ]


SERIES: dict[str, Callable[[str, str, str, str], Points]] = {
    "aim": _aim,
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
    "trackio": _trackio,
}
"""`SERIES[viewer](url, project, run, tag)`: the points of a series, as the viewer's page gets them."""
