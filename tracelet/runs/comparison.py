"""Compare runs: differing parameters, and the series in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tracelet.errors import ConfigurationError
from tracelet.records import RunInfo
from tracelet.runs import report as report_module
from tracelet.runs.charts import Chart, Curve, system_last
from tracelet.runs.report import DownsampledSeries, RunReport

# Buckets of one chart, over all runs: as many as in the chart of a single run.
_BUCKETS = 256
_MIN_BUCKETS = 20


class Absent:
    """The type of `MISSING`, which differs from every value, None included."""

    def __repr__(self) -> str:
        return ""


MISSING = Absent()


class Row(NamedTuple):
    """A name and its value in each run, in the order of the runs; `MISSING` if a run has none."""

    name: str
    values: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        """Return whether the `repr` of the values differs: 1, 1.0 and "1" are three values, NaN and NaN one."""
        return len({(value is MISSING, repr(value)) for value in self.values}) > 1

    @property
    def shown(self) -> tuple[Any, ...]:
        """Return the values, or their `repr` if two different values would look the same."""
        present = [value for value in self.values if value is not MISSING]
        if len({*map(repr, present)}) == len({*map(str, present)}):
            return self.values
        return tuple(value if value is MISSING else repr(value) for value in self.values)


class Comparison(NamedTuple):
    """Compared runs. All fields follow the order of `runs`."""

    runs: tuple[RunReport, ...]
    labels: tuple[str, ...]
    """The name of each run. If several runs share it, a part of the id is added."""
    params: tuple[Row, ...]
    final: tuple[Row, ...]
    """The summary metrics."""
    series: Mapping[str, tuple[DownsampledSeries | None, ...]]
    """Every series by its tag; None if a run does not have it."""

    @property
    def differing(self) -> list[Row]:
        """Return the parameters that differ."""
        return [row for row in self.params if row.differs]

    @property
    def common(self) -> dict[str, tuple[DownsampledSeries | None, ...]]:
        """Return the series of at least two runs, system metrics last."""
        tags = [tag for tag, curves in self.series.items() if sum(curve is not None for curve in curves) > 1]
        return {tag: self.series[tag] for tag in system_last(tags)}

    def charts(self) -> list[Chart]:
        """Return a chart for each common series, with a curve for each run. A run has one color in all charts."""
        return [
            Chart(
                tag,
                tuple(
                    Curve(label, curve, index)
                    for index, (label, curve) in enumerate(zip(self.labels, curves, strict=True))
                    if curve is not None
                ),
            )
            for tag, curves in self.common.items()
        ]


def compare(folders: Sequence[Path]) -> Comparison:
    """Read and compare the runs in `folders`.

    Raises:
        ConfigurationError: if there are fewer than two different runs.
        JournalError: if a run has no readable journal.
    """
    distinct = list(dict.fromkeys(folder.resolve() for folder in folders))
    if len(distinct) < 2:
        raise ConfigurationError("compare needs at least two runs")
    buckets = max(_BUCKETS // len(distinct), _MIN_BUCKETS)
    return of_reports([report_module.read(folder, stretches=buckets) for folder in distinct])


def of_reports(runs: Sequence[RunReport]) -> Comparison:
    """Compare runs from their reports."""
    tags = dict.fromkeys(tag for run in runs for tag in run.scalars)
    return Comparison(
        tuple(runs),
        _labels(runs),
        _rows([run.params for run in runs]),
        _rows([run.final for run in runs]),
        {tag: tuple(run.scalars.get(tag) for run in runs) for tag in tags},
    )


def _rows(runs: Sequence[Mapping[str, Any]]) -> tuple[Row, ...]:
    names = sorted({name for values in runs for name in values})
    return tuple(Row(name, tuple(values.get(name, MISSING) for values in runs)) for name in names)


def _labels(runs: Sequence[RunReport]) -> tuple[str, ...]:
    infos = [run.summary.info for run in runs]
    labels = []
    for info in infos:
        name = info.name or info.run_id
        namesakes = [other for other in infos if (other.name or other.run_id) == name]
        labels.append(name if len(namesakes) == 1 else f"{name} ({_unique_prefix(info, namesakes)})")
    return tuple(labels)


def _unique_prefix(info: RunInfo, namesakes: Sequence[RunInfo]) -> str:
    """Return as many parts of the id (20260131, then 20260131-142501, ...) as the namesakes need to differ."""
    ids = {other.run_id for other in namesakes}
    if len(ids) < len(namesakes):
        return f"{info.project or 'default'}/{info.run_id}"
    count = 1
    while len({_prefix(run_id, count) for run_id in ids}) < len(ids):
        count += 1
    return _prefix(info.run_id, count)


def _prefix(run_id: str, parts: int) -> str:
    return "-".join(run_id.split("-")[:parts])
