"""Which curves share a chart, and what it is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tracelet.runs.report import Point, Series

_MACHINE = "system/"


class Curve(NamedTuple):
    """A series under the name that its chart's legend gives it; `place` is the place of its colour."""

    name: str
    series: Series
    place: int


class Chart(NamedTuple):
    title: str
    curves: tuple[Curve, ...]

    @property
    def is_of_machine(self) -> bool:
        """What was measured of the machine, and not said by the program."""
        return all(is_of_machine(curve.series.tag) for curve in self.curves)

    def points(self) -> list[list[Point]]:
        """Of each curve, what is kept of it."""
        return [curve.series.points() for curve in self.curves]


def of_run(series: Mapping[str, Series]) -> list[Chart]:
    """A run's charts: `by_word`, and the machine's last, which share none with the program's."""
    own = {tag: one for tag, one in series.items() if not is_of_machine(tag)}
    machine = {tag: one for tag, one in series.items() if is_of_machine(tag)}
    return by_word(own) + by_word(machine)


def machine_last(tags: Iterable[str]) -> list[str]:
    """What the program said before what was measured of the machine, else in the order given."""
    return sorted(tags, key=is_of_machine)


def is_of_machine(tag: str) -> bool:
    return tag.startswith(_MACHINE)


def by_word(series: Mapping[str, Series]) -> list[Chart]:
    """Series that end in the same word (`loss`, `val/loss`) in one chart, in the order of the program."""
    groups: dict[str, list[Series]] = {}
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
