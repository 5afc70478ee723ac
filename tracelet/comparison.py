"""Several runs side by side: what differs in what they were given, and what became of the series that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tracelet import report as report_module
from tracelet.charts import Chart, Curve, is_of_machine
from tracelet.errors import ConfigurationError
from tracelet.report import RunReport, Series

# Of all runs together, as many points of a chart as of a single run.
_STRETCHES = 256
_LEAST_STRETCHES = 32


class Absent:
    """What a run was not given has no value, not even None."""

    def __repr__(self) -> str:
        return ""


ABSENT = Absent()


class Line(NamedTuple):
    """One name, and its value in each run, in the order of the runs; `ABSENT` where it has none."""

    name: str
    values: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        """As a person would see it: 1 and 1.0 are two values, NaN and NaN one."""
        return len({(value is ABSENT, str(value)) for value in self.values}) > 1


class Comparison(NamedTuple):
    """Runs side by side; everything in the order of `runs`."""

    runs: tuple[RunReport, ...]
    labels: tuple[str, ...]
    """What each run is called here: its name where no other has it, else with its id."""
    params: tuple[Line, ...]
    final: tuple[Line, ...]
    """The final figures that the programs gave."""
    series: Mapping[str, tuple[Series | None, ...]]
    """Every series by its name; None where a run does not have it."""

    @property
    def differing(self) -> list[Line]:
        """The parameters in which the runs are not alike."""
        return [line for line in self.params if line.differs]

    @property
    def common(self) -> dict[str, tuple[Series | None, ...]]:
        """The series of at least two of the runs."""
        return {tag: found for tag, found in self.series.items() if sum(one is not None for one in found) > 1}

    def charts(self) -> list[Chart]:
        """A chart for each common series, a curve for each run, which has one colour in all of them; the machine's
        last."""
        return [
            Chart(
                tag,
                tuple(
                    Curve(label, one, at)
                    for at, (label, one) in enumerate(zip(self.labels, found, strict=True))
                    if one is not None
                ),
            )
            for tag, found in sorted(self.common.items(), key=lambda one: is_of_machine(one[0]))
        ]


def compare(folders: Sequence[Path]) -> Comparison:
    """The runs in `folders` side by side.

    Raises:
        ConfigurationError: these are not at least two different runs.
        JournalError: one of them has no readable journal.
    """
    distinct = list(dict.fromkeys(folder.resolve() for folder in folders))
    if len(distinct) < 2:
        raise ConfigurationError("name two runs or more, that they can be compared")
    stretches = max(_STRETCHES // len(distinct), _LEAST_STRETCHES)
    return of_reports([report_module.read(folder, stretches=stretches) for folder in distinct])


def of_reports(runs: Sequence[RunReport]) -> Comparison:
    """Runs that were read already."""
    tags = dict.fromkeys(tag for run in runs for tag in run.scalars)
    return Comparison(
        tuple(runs),
        _labels(runs),
        _lines([run.params for run in runs]),
        _lines([run.final for run in runs]),
        {tag: tuple(run.scalars.get(tag) for run in runs) for tag in tags},
    )


def _lines(told: Sequence[Mapping[str, Any]]) -> tuple[Line, ...]:
    names = sorted({name for one in told for name in one})
    return tuple(Line(name, tuple(one.get(name, ABSENT) for one in told)) for name in names)


def _labels(runs: Sequence[RunReport]) -> tuple[str, ...]:
    infos = [run.summary.info for run in runs]
    times = Counter(info.name or info.run_id for info in infos)
    labels = []
    for info in infos:
        name = info.name or info.run_id
        labels.append(name if times[name] == 1 else f"{name} ({info.project or 'default'}/{info.run_id})")
    return tuple(labels)
