"""Run one training that meets a fault, and measure the effect on the program."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.fault_places import Place, until

import tracelet
from tracelet import sync
from tracelet.experiment.experiment import Experiment
from tracelet.experiment.stats import Stats

SCALARS = 1000
BEGIN, END = 250, 750
"""The fault lasts from the first of these steps to the second."""
_CONNECT = 2.0
# Long enough for every timeout and the backoff after it.
_RECOVERY = 60.0
_NOTICED = 20.0
_GIVE_UP = 2.0
_SLOW = 5.0
_SILENT = 2.0

MODES = {"down at start": "refuse", "down in mid-run": "refuse", "down at stop": "refuse", "hangs": "hang"}


@dataclass
class Report:
    """Hold measurements of the program, in seconds, and its final counts."""

    folder: Path
    start: float = 0.0
    whole: float = 0.0
    """The duration of the loop: the program's work and calls, without the waits of this module."""
    longest: float = 0.0
    stop: float = 0.0
    noticed: bool = True
    stats: Stats | None = None
    synced: sync.Synced | None = None


def run(place: Place, cell: str | None, work: int = 0) -> Report:
    """Log `SCALARS` points, parameters and images while `cell` happens. `work` is the number of additions per step."""
    mode = MODES.get(cell or "", cell or "pass")
    config = place.config()
    early = cell == "down at start" or (cell == "down at stop" and place.from_start)
    if early:
        place.set(mode)
    began = time.monotonic()
    experiment = tracelet.start_logging(
        "faults", "matrix", place.backend, config=config, connect_timeout=_CONNECT, flush_timeout=_RECOVERY
    )
    report = Report(experiment.folder, start=time.monotonic() - began)
    experiment.log_params({"lr": 0.1})
    if not early:
        assert until(lambda: _state(experiment, place) == "connected"), _state(experiment, place)
    for step in range(SCALARS):
        if step == BEGIN and cell not in (None, "down at start", "down at stop"):
            assert experiment.flush(30)
            place.set(mode)
        if step == END:
            _end_of_fault(experiment, place, cell, report)
        before = time.perf_counter()
        experiment.log_metric("loss", step / 4, step, wall_time=1_700_000_000.25 + step)
        if step in (100, 500, 900):
            experiment.log_image("image", _image(), step)
        report.longest = max(report.longest, time.perf_counter() - before)
        _train(work)
        report.whole += time.perf_counter() - before
    _stop(experiment, place, cell, mode, report)
    if cell == "down at stop":
        report.synced = sync.deliver(experiment.folder, [place.backend], config={place.backend: config})
    return report


def _train(work: int) -> int:
    return sum(number & 1 for number in range(work))


def _end_of_fault(experiment: Experiment, place: Place, cell: str | None, report: Report) -> None:
    if cell in (None, "down at stop"):
        return
    if cell == "slow":  # one vendor sends each point alone, and waits: five per second
        until(lambda: experiment.stats().backends[place.backend].pending == 0, _SLOW)
    elif cell in place.reported:
        report.noticed = until(lambda: _state(experiment, place) in ("waiting", "offline"), _NOTICED)
    else:  # the vendor's own process meets the fault, and does not report it
        until(lambda: False, _SILENT)
    place.set("pass")
    until(lambda: _state(experiment, place) in ("connected", "offline"), _RECOVERY)


def _stop(experiment: Experiment, place: Place, cell: str | None, mode: str, report: Report) -> None:
    if cell == "down at stop":
        if not place.from_start:
            assert experiment.flush(30)
            place.set(mode)
        for step in range(SCALARS, SCALARS + 100):
            experiment.log_metric("loss", step / 4, step, wall_time=1_700_000_000.25 + step)
    began = time.monotonic()
    experiment.stop(timeout=_GIVE_UP if cell == "down at stop" else _RECOVERY)
    report.stop, report.stats = time.monotonic() - began, experiment.stats()
    for thread in threading.enumerate():  # a vendor may still be closing after the timeout
        if thread.name.startswith("tracelet-"):
            thread.join(_RECOVERY)
    place.set("pass")


def _state(experiment: Experiment, place: Place) -> str:
    return experiment.stats().backends[place.backend].state


def _image() -> Any:
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 20, 30)).save(data, "PNG")
    return Image.open(io.BytesIO(data.getvalue()))
