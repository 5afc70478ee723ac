"""Group curves into charts, and charts into sections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tracelet.capture.naming import SPLITS
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

    @property
    def section(self) -> str:
        """Return the first part of the name; "" if it has only one."""
        first, _, rest = self.title.partition("/")
        return first if rest else ""

    def points(self) -> list[list[Point]]:
        """Return the downsampled points of each curve."""
        return [curve.series.points() for curve in self.curves]


def of_run(series: Mapping[str, DownsampledSeries]) -> list[Chart]:
    """Return the charts of a run. System metrics come last, in charts of their own."""
    program = {tag: curve for tag, curve in series.items() if not is_system_metric(tag)}
    system = {tag: curve for tag, curve in series.items() if is_system_metric(tag)}
    return group_by_name(program) + group_by_name(system)


def system_last(tags: Iterable[str]) -> list[str]:
    """Move system metrics to the end; keep the order otherwise."""
    return sorted(tags, key=is_system_metric)


def group_by_name(series: Mapping[str, DownsampledSeries]) -> list[Chart]:
    """Put series into one chart if they are the same metric of several writers or data sets; keep the order.

    As in TensorBoard, a chart has one tag of all writers, and the series of one add_scalars call. Names that differ
    only in a part such as train or val (`train/loss` and `val/loss`, `loss/train` and `loss/test`) share one too.
    """
    groups: dict[tuple[str, ...], list[DownsampledSeries]] = {}
    for curve in series.values():
        groups.setdefault(_metric(curve), []).append(curve)
    return [
        Chart(
            group[0].tag if len(group) == 1 else "/".join(metric),
            tuple(Curve(curve.tag, curve, index) for index, curve in enumerate(group)),
        )
        for metric, group in groups.items()
    ]


def is_stepless(curves: Sequence[Sequence[Point]]) -> bool:
    """Return whether no curve has two different steps. If so, charts use the order of the points instead."""
    return any(len(points) > 1 for points in curves) and all(
        len({point.step for point in points}) <= 1 for points in curves
    )


def _metric(series: DownsampledSeries) -> tuple[str, ...]:
    """Return the parts of the name without its writer and its data set."""
    name = series.tag if series.shared_name is None else series.shared_name
    prefix = f"{series.writer}/"
    if series.writer and name.startswith(prefix) and name != prefix:
        name = name.removeprefix(prefix)
    parts = name.rstrip("/").split("/")
    if len(parts) > 1:
        for index in (0, -1):
            if parts[index].lower() in SPLITS:
                del parts[index]
                break
    return tuple(parts)
