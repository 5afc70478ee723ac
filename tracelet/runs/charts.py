"""Which curves share a chart, and what it is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tracelet.runs.report import DownsampledSeries, Point

_MACHINE = "system/"


class Curve(NamedTuple):
    """A series under the name that its chart's legend gives it; `place` is the place of its colour."""

    name: str
    series: DownsampledSeries
    place: int


class Chart(NamedTuple):
    title: str
    curves: tuple[Curve, ...]

    @property
    def is_system_metric(self) -> bool:
        """What was measured of the machine, and not said by the program."""
        return all(is_system_metric(curve.series.tag) for curve in self.curves)

    def points(self) -> list[list[Point]]:
        """Of each curve, what is kept of it."""
        return [curve.series.points() for curve in self.curves]


def of_run(series: Mapping[str, DownsampledSeries]) -> list[Chart]:
    """A run's charts: `group_by_last_part`, and the machine's last, which share none with the program's."""
    own = {tag: one for tag, one in series.items() if not is_system_metric(tag)}
    machine = {tag: one for tag, one in series.items() if is_system_metric(tag)}
    return group_by_last_part(own) + group_by_last_part(machine)


def system_last(tags: Iterable[str]) -> list[str]:
    """What the program said before what was measured of the machine, else in the order given."""
    return sorted(tags, key=is_system_metric)


def is_system_metric(tag: str) -> bool:
    return tag.startswith(_MACHINE)


def group_by_last_part(series: Mapping[str, DownsampledSeries]) -> list[Chart]:
    """Series that end in the same word (`loss`, `val/loss`) in one chart, in the order of the program."""
    groups: dict[str, list[DownsampledSeries]] = {}
    for name, one in series.items():
        groups.setdefault(_parts(name)[-1], []).append(one)
    return [
        Chart(_title([one.tag for one in group]), tuple(Curve(one.tag, one, at) for at, one in enumerate(group)))
        for group in groups.values()
    ]


def is_stepless(drawn: Sequence[Sequence[Point]]) -> bool:
    """Where the program gave no steps, all points would be at 0: their order takes the steps' place."""
    return any(len(points) > 1 for points in drawn) and all(
        len({point.step for point in points}) <= 1 for points in drawn
    )


def _title(tags: Sequence[str]) -> str:
    """A single tag whole; of several the last parts that all of them share, and the legend has them whole."""
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
