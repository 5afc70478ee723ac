"""Group curves into charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tracelet.records import is_system_metric
from tracelet.runs.report import DownsampledSeries, Point


class Curve(NamedTuple):
    """A series with its name in the legend. Equal `color_index` values have equal colors in every chart."""

    name: str
    series: DownsampledSeries
    color_index: int


class Chart(NamedTuple):
    title: str
    curves: tuple[Curve, ...]

    @property
    def is_system_metric(self) -> bool:
        return all(is_system_metric(curve.series.tag) for curve in self.curves)

    def points(self) -> list[list[Point]]:
        """Return the downsampled points of each curve."""
        return [curve.series.points() for curve in self.curves]


def of_run(series: Mapping[str, DownsampledSeries]) -> list[Chart]:
    """Return the charts of a run. System metrics come last, in charts of their own."""
    program = {tag: curve for tag, curve in series.items() if not is_system_metric(tag)}
    system = {tag: curve for tag, curve in series.items() if is_system_metric(tag)}
    return group_by_last_part(program) + group_by_last_part(system)


def system_last(tags: Iterable[str]) -> list[str]:
    """Move system metrics to the end; keep the order otherwise."""
    return sorted(tags, key=is_system_metric)


def group_by_last_part(series: Mapping[str, DownsampledSeries]) -> list[Chart]:
    """Put series into one chart if their tags end in the same part (`loss`, `val/loss`); keep the order."""
    groups: dict[str, list[DownsampledSeries]] = {}
    for tag, curve in series.items():
        groups.setdefault(_parts(tag)[-1], []).append(curve)
    return [
        Chart(
            _title([curve.tag for curve in group]),
            tuple(Curve(curve.tag, curve, index) for index, curve in enumerate(group)),
        )
        for group in groups.values()
    ]


def is_stepless(curves: Sequence[Sequence[Point]]) -> bool:
    """Return whether no curve has two different steps. If so, charts use the order of the points instead."""
    return any(len(points) > 1 for points in curves) and all(
        len({point.step for point in points}) <= 1 for points in curves
    )


def _title(tags: Sequence[str]) -> str:
    """Return a single tag whole, or the last parts that several tags share. The legend has whole tags."""
    if len(tags) == 1:
        return tags[0]
    shared: list[str] = []
    for parts in zip(*(reversed(_parts(tag)) for tag in tags), strict=False):
        if len(set(parts)) > 1:
            break
        shared.insert(0, parts[0])
    return "/".join(shared)


def _parts(tag: str) -> list[str]:
    return tag.rstrip("/").split("/")
