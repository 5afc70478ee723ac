"""Follow a run's scalars in its journal, and update one display of a notebook with them."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracelet.errors import JournalError
from tracelet.experiment.notebook import curves_html, curves_text, run_html
from tracelet.guard import Guard
from tracelet.journal.store import JournalReader
from tracelet.records import Scalar, shown_step
from tracelet.runs.page.markup import joined
from tracelet.runs.report import DownsampledSeries, series_of
from tracelet.runs.svg import BUCKETS

if TYPE_CHECKING:
    from tracelet.experiment.experiment import Experiment

# Seconds of reading before each update, at the end of the run, and for a cell's last line.
_SLICE, _LAST_SLICE, _REPR_SLICE = 0.1, 0.5, 1.0
# The thread rests this many times as long as it worked.
_REST = 20
# Seconds that the end of the run waits for the last update.
_JOIN_TIMEOUT = 1.0
# Later series are left out, to bound the memory.
_MAX_SERIES = 500


class Curves:
    """The scalars of one journal, read in slices, in bounded memory."""

    def __init__(self, folder: Path) -> None:
        self.series: dict[str, DownsampledSeries] = {}
        self._folder, self._position, self._last = folder, 0, 0
        self._omitted = False

    def read(self, seconds: float) -> None:
        """Read new records for at most that time. A run that has just begun may have no journal.

        The journal is opened each time: its writer cannot merge its files at the end while a reader has them open.
        """
        deadline = time.monotonic() + seconds
        with contextlib.suppress(JournalError), JournalReader(self._folder) as reader:
            self._last, facts = reader.last(), reader.facts()
            while time.monotonic() < deadline and (batch := reader.next_batch(self._position)):
                for record in batch.records:
                    if isinstance(record, Scalar):
                        self._add(record, facts)
                self._position = batch.last

    def _add(self, record: Scalar, facts: Mapping[str, Any]) -> None:
        series = self.series.get(record.tag)
        if series is None:
            if len(self.series) == _MAX_SERIES:
                self._omitted = True
                return
            series = self.series[record.tag] = series_of(record, facts, BUCKETS)
        series.add(shown_step(record.step), record.value, record.wall_time)

    @property
    def note(self) -> str:
        """What the curves lack; empty if they are complete."""
        notes = [f"the first {self._position} of {self._last} records"] if self._position < self._last else []
        notes += [f"the first {_MAX_SERIES} series"] if self._omitted else []
        return f"Curves of {' and '.join(notes)}." if notes else ""


class LiveView:
    """Update a display every few seconds on a thread, until the end of the run.

    Args:
        render: Returns the formats of the display by MIME type, from the curves.
        update: Shows them in place of the former ones.
    """

    def __init__(
        self,
        curves: Curves,
        render: Callable[[Curves], dict[str, str]],
        update: Callable[[dict[str, str]], None],
        every: float,
        guard: Guard,
    ) -> None:
        self._curves, self._render, self._update, self._every, self._guard = curves, render, update, every, guard
        self._shown: dict[str, str] | None = None
        self._paused = self._cancelled = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._main, name="tracelet-notebook", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Leave the journal to its writer, which is about to close it."""
        self._paused = True

    def cancel(self) -> None:
        """Leave the display as it is."""
        self._cancelled = True
        self._wake.set()

    def finish(self) -> None:
        """Show the run once more, now that it has ended. Waits a second at most."""
        self._paused = False
        self._wake.set()
        self._thread.join(_JOIN_TIMEOUT)

    def _main(self) -> None:
        self._guard.isolate(self._follow)

    def _follow(self) -> None:
        is_last = False
        while not self._cancelled:
            began = time.thread_time()
            if not self._paused:
                self._curves.read(_LAST_SLICE if is_last else _SLICE)
                self._guard.call(self._refresh)
            if is_last:
                return
            worked = time.thread_time() - began
            is_last = self._wake.wait(max(self._every, _REST * worked))

    def _refresh(self) -> None:
        formats = self._render(self._curves)
        if formats != self._shown and not self._cancelled:
            self._shown = formats
            self._update(formats)


def show(experiment: Experiment, every: float, *, has_frontend: bool) -> LiveView | None:
    """Display the curves of a run. Return the view that updates them; None if the run has ended.

    A terminal, which is no frontend, would print every update.
    """
    from IPython import display as ipython

    display: Any = ipython.display
    curves, has_ended = Curves(experiment.folder), experiment._stopped.is_set()
    if has_ended or not has_frontend:
        curves.read(math.inf if has_ended else _REPR_SLICE)
        display(_formats(experiment, curves), raw=True)
        return None
    handle = display(_formats(experiment, curves), raw=True, display_id=True)
    view = LiveView(
        curves,
        lambda curves: _formats(experiment, curves),
        lambda formats: handle.update(formats, raw=True),
        every,
        experiment._guard,
    )
    experiment._before_end.append(view.pause)
    return view


def _formats(experiment: Experiment, curves: Curves) -> dict[str, str]:
    assert experiment._orchestrator is not None
    # Not those of the backends, which may be slow.
    urls = {name: delivery.url for name, delivery in experiment._orchestrator.deliveries.items()}
    text = f"{experiment!r}\n{curves_text(curves.series)}".rstrip()
    return {"text/html": _html(experiment, curves, urls), "text/plain": text}


def to_html(experiment: Experiment) -> str:
    """Return the run as a cell's last line, with the curves that are read within a second."""
    curves = Curves(experiment.folder)
    if experiment._orchestrator is not None:
        curves.read(_REPR_SLICE)
    return _html(experiment, curves, experiment._urls())


def _html(experiment: Experiment, curves: Curves, urls: dict[str, str | None]) -> str:
    stats = experiment.stats()
    table = run_html(experiment._info, experiment._state, urls, stats.submitted, stats.backends)
    return str(joined(table, curves_html(curves.series, curves.note)))
