"""Several runs side by side: what differs in what they were given, and what became of the series that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tracelet.errors import ConfigurationError
from tracelet.records import RunInfo
from tracelet.runs import report as report_module
from tracelet.runs.charts import Chart, Curve, system_last
from tracelet.runs.report import DownsampledSeries, RunReport

# Of all runs together, as many points of a chart as of a single run.
_STRETCHES = 256
_LEAST_STRETCHES = 32


class Absent:
    """What a run was not given has no value, not even None."""

    def __repr__(self) -> str:
        return ""


MISSING = Absent()


class Row(NamedTuple):
    """One name, and its value in each run, in the order of the runs; `MISSING` where it has none."""

    name: str
    values: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        """As a program would write it: 1, 1.0 and "1" are three values, NaN and NaN one."""
        return len({(value is MISSING, repr(value)) for value in self.values}) > 1

    @property
    def shown(self) -> tuple[Any, ...]:
        """The values; as a program would write them where two would else look the same."""
        given = [value for value in self.values if value is not MISSING]
        if len({*map(repr, given)}) == len({*map(str, given)}):
            return self.values
        return tuple(value if value is MISSING else repr(value) for value in self.values)


class Comparison(NamedTuple):
    """Runs side by side; everything in the order of `runs`."""

    runs: tuple[RunReport, ...]
    labels: tuple[str, ...]
    """What each run is called here: its name where no other has it, else with as much of its id as tells it apart."""
    params: tuple[Row, ...]
    final: tuple[Row, ...]
    """The final figures that the programs gave."""
    series: Mapping[str, tuple[DownsampledSeries | None, ...]]
    """Every series by its name; None where a run does not have it."""

    @property
    def differing(self) -> list[Row]:
        """The parameters in which the runs are not alike."""
        return [line for line in self.params if line.differs]

    @property
    def common(self) -> dict[str, tuple[DownsampledSeries | None, ...]]:
        """The series of at least two of the runs; the machine's last."""
        shared = [tag for tag, found in self.series.items() if sum(one is not None for one in found) > 1]
        return {tag: self.series[tag] for tag in system_last(shared)}

    def charts(self) -> list[Chart]:
        """A chart for each common series, a curve for each run, which has one colour in all of them."""
        return [
            Chart(
                tag,
                tuple(
                    Curve(label, one, at)
                    for at, (label, one) in enumerate(zip(self.labels, found, strict=True))
                    if one is not None
                ),
            )
            for tag, found in self.common.items()
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


def _lines(told: Sequence[Mapping[str, Any]]) -> tuple[Row, ...]:
    names = sorted({name for one in told for name in one})
    return tuple(Row(name, tuple(one.get(name, MISSING) for one in told)) for name in names)


def _labels(runs: Sequence[RunReport]) -> tuple[str, ...]:
    infos = [run.summary.info for run in runs]
    labels = []
    for info in infos:
        name = info.name or info.run_id
        alike = [one for one in infos if (one.name or one.run_id) == name]
        labels.append(name if len(alike) == 1 else f"{name} ({_told_apart(info, alike)})")
    return tuple(labels)


def _told_apart(info: RunInfo, alike: Sequence[RunInfo]) -> str:
    """Of its id the first parts (20260131, then 20260131-142501, ...) by which the runs can be told apart."""
    ids = {one.run_id for one in alike}
    if len(ids) < len(alike):
        return f"{info.project or 'default'}/{info.run_id}"
    count = 1
    while len({_beginning(one, count) for one in ids}) < len(ids):
        count += 1
    return _beginning(info.run_id, count)


def _beginning(run_id: str, parts: int) -> str:
    return "-".join(run_id.split("-")[:parts])
