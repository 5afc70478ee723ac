"""Read the report of a run from its journal.

The journal is streamed, and a long curve is reduced to the extremes of equal buckets. Memory therefore depends on the
number of series, not on their length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tracelet.journal.store import JournalReader
from tracelet.records import Alert, Artifact, File, Params, Record, Scalar, Summary, Tags, kind, shown_step
from tracelet.runs import edits
from tracelet.runs.summary import RunSummary, check_journal, summarise

_BARS = "▁▂▃▄▅▆▇█"
_BUCKETS = 256
_MAX_FILES = 100
_MAX_ALERTS = 100


class Point(NamedTuple):
    """One point of a curve. `position` is its number in the order of logging, from 1; `wall_time` in seconds."""

    position: int
    step: int
    value: float
    wall_time: float = 0.0


class _Bucket:
    """The lowest, the highest and the first non-finite of consecutive points, and the mean of the finite ones."""

    __slots__ = ("count", "high", "low", "mean", "non_finite")

    def __init__(self) -> None:
        self.low: Point | None = None
        self.high: Point | None = None
        self.non_finite: Point | None = None
        self.mean = 0.0
        self.count = 0

    def add(self, position: int, step: int, value: float, wall_time: float) -> None:
        # Called for every point of a run, so create a Point only if it is stored.
        if not math.isfinite(value):
            self.non_finite = self.non_finite or Point(position, step, value, wall_time)
            return
        self.count += 1
        self.mean += value / self.count - self.mean / self.count  # the sum of all values may overflow
        if self.low is None or value < self.low.value:
            self.low = Point(position, step, value, wall_time)
        if self.high is None or value > self.high.value:
            self.high = Point(position, step, value, wall_time)

    def merge(self, other: _Bucket) -> None:
        """Add the points of the next bucket."""
        count = self.count + other.count
        mean = self.mean * (self.count / count) + other.mean * (other.count / count) if count else 0.0
        for point in other.points():
            self.add(*point)
        self.mean, self.count = mean, count

    def points(self) -> list[Point]:
        return [point for point in (self.low, self.high, self.non_finite) if point is not None]


class DownsampledSeries:
    """A curve in bounded memory. `minimum` and `maximum` ignore NaN; they are NaN if every value is.

    `writer` is the namespace of its SummaryWriter. `shared_name` is the name of its call if it came from add_scalars.
    """

    def __init__(self, tag: str, buckets: int = _BUCKETS, *, writer: str = "", shared_name: str | None = None) -> None:
        self.tag, self.writer, self.shared_name = tag, writer, shared_name
        self.count = 0
        self.nans = 0
        self.first = self.last = self.minimum = self.maximum = math.nan
        self._max_buckets = 2 * buckets
        self._width = 1
        self._buckets: list[_Bucket] = []
        self._first: Point | None = None
        self._last_step, self._last_time = 0, 0.0

    def add(self, step: int, value: float, wall_time: float = 0.0) -> None:
        if self._first is None:
            self.first = value
            self._first = Point(1, step, value, wall_time)
        if self.count == self._width * self._max_buckets:
            for left, right in zip(self._buckets[::2], self._buckets[1::2], strict=True):
                left.merge(right)
            del self._buckets[1::2]
            self._width *= 2
        if self.count % self._width == 0:
            self._buckets.append(_Bucket())
        self.count += 1
        self.last, self._last_step, self._last_time = value, step, wall_time
        if value != value:
            self.nans += 1
        else:
            # Negated, so that they replace the NaN of an empty series.
            if not self.minimum <= value:
                self.minimum = value
            if not self.maximum >= value:
                self.maximum = value
        self._buckets[-1].add(self.count, step, value, wall_time)

    def points(self) -> list[Point]:
        """Return every point of a short curve.

        Of a long one, return the first, the last, and the extremes and the first non-finite point of each bucket.
        """
        points = {point.position: point for bucket in self._buckets for point in bucket.points()}
        if self._first is not None:
            points[1] = self._first
            points[self.count] = Point(self.count, self._last_step, self.last, self._last_time)
        return [points[position] for position in sorted(points)]

    def means(self) -> dict[int, float] | None:
        """Return the mean of each bucket by the position of its last point in `points`; None for a short curve.

        A curve through the extremes alone is not the average of the values between them.
        """
        if self._width == 1:
            return None
        means = {}
        for index, bucket in enumerate(self._buckets):
            if bucket.count:
                is_last = index == len(self._buckets) - 1
                means[self.count if is_last else max(bucket.points()).position] = bucket.mean
        return means

    def sparkline(self, width: int = 20) -> str:
        """Return the curve as at most `width` characters."""
        return sparkline([point.value for point in self.points()], width)


class ArtifactLine(msgspec.Struct, frozen=True, kw_only=True):
    """The last version of an artifact."""

    name: str
    files: int
    size: int
    versions: int
    type: str = "file"
    listed: tuple[File, ...] = ()
    """The first hundred files."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Records that a backend rejected for one reason."""

    reason: str
    count: int
    example: str
    """The kind and the name of the first record."""


class RunReport(msgspec.Struct, kw_only=True):
    """The content of a run, as `tracelet show` prints it."""

    summary: RunSummary
    params: dict[str, Any]
    scalars: dict[str, DownsampledSeries]
    others: dict[str, dict[str, int]]
    """Counts of records of other kinds: kind -> name -> count."""
    artifacts: dict[str, ArtifactLine]
    refusals: dict[str, list[Refusal]]
    """Rejected records by backend."""
    damaged: list[str]
    """Unreadable parts of the journal."""
    final: dict[str, Any]
    """The summary metrics."""
    tags: list[str]
    """The tags from the start, and those added later."""
    alerts: list[Alert]
    """The last hundred alerts; `others` counts all."""
    git: dict[str, Any] = {}
    """The commit of the program."""
    environment: dict[str, Any] = {}
    """The host and the interpreter of the program."""


def series_of(record: Scalar, facts: Mapping[str, Any], buckets: int) -> DownsampledSeries:
    """Return an empty curve for the series of a record. `facts` are those of its run."""
    shared_name = facts.get(f"scalars {record.tag}")
    return DownsampledSeries(record.tag, buckets, writer=record.writer, shared_name=shared_name)


def read(folder: Path, *, stretches: int = _BUCKETS, see: Callable[[Record], None] | None = None) -> RunReport:
    """Read the run in `folder`. A curve keeps at most six points for each of `stretches` buckets, and its ends.

    Call `see`, if given, with every record that is not a scalar, in the order of logging.

    Raises:
        JournalError: if there is no readable journal.
    """
    check_journal(folder)
    summary = summarise(folder)
    report = RunReport(
        summary=summary,
        params={},
        scalars={},
        others={},
        artifacts={},
        refusals={},
        damaged=[],
        final={},
        tags=list(summary.info.tags),
        alerts=[],
    )
    with JournalReader(folder) as reader:
        facts = reader.facts()
        report.git, report.environment = facts.get("git", {}), facts.get("environment", {})
        position = 0
        while batch := reader.next_batch(position):
            if batch.damaged:
                report.damaged.append(batch.damaged)
            for record in batch.records:
                if isinstance(record, Scalar):
                    series = report.scalars.get(record.tag)
                    if series is None:
                        series = report.scalars[record.tag] = series_of(record, facts, stretches)
                    series.add(shown_step(record.step), record.value, record.wall_time)
                else:
                    _add(report, record)
                    if see is not None:
                        see(record)
            position = batch.last
        for state in report.summary.backends:
            if state.rejected:
                report.refusals[state.name] = _refusals(reader, state.name)
    report.tags = list(edits.read(folder).tags(report.tags))
    return report


def sparkline(values: Sequence[float], width: int = 20) -> str:
    """Return values as at most `width` bars. "×" is NaN, "↑" and "↓" are the infinities; none of them is averaged."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    width = min(width, len(values))
    return "".join(
        _bar(values[len(values) * index // width : len(values) * (index + 1) // width], low, high)
        for index in range(width)
    )


def _bar(values: Sequence[float], low: float, high: float) -> str:
    non_finite = next((value for value in values if not math.isfinite(value)), None)
    if non_finite is not None:
        return "×" if non_finite != non_finite else "↑" if non_finite > 0 else "↓"
    if low == high:
        return _BARS[len(_BARS) // 2 - 1]
    # Divide first, since the sum or the span may overflow. Halve only then: half of the smallest float is 0.
    mean = sum(value / len(values) for value in values)
    factor = 1.0 if math.isfinite(high - low) else 0.5
    share = (mean * factor - low * factor) / (high * factor - low * factor)
    return _BARS[max(0, min(int(share * len(_BARS)), len(_BARS) - 1))]


def _add(report: RunReport, record: Record) -> None:
    match record:
        case Params(values):
            report.params.update(values)
        case Summary(values):
            report.final.update(values)
        case Tags(tags):
            report.tags = list(dict.fromkeys([*report.tags, *tags]))
        case Alert():
            report.alerts = [*report.alerts[1 - _MAX_ALERTS :], record]
            _count(report, record)
        case Artifact(name=name, files=files, type=type):
            earlier = report.artifacts.get(name)
            report.artifacts[name] = ArtifactLine(
                name=name,
                files=len(files),
                size=sum(file.size for file in files),
                versions=1 + (earlier.versions if earlier else 0),
                type=type,
                listed=files[:_MAX_FILES],
            )
        case _:
            _count(report, record)


def _count(report: RunReport, record: Record) -> None:
    names = report.others.setdefault(kind(record), {})
    tag = _tag(record)
    names[tag] = names.get(tag, 0) + 1


def _refusals(reader: JournalReader, backend: str) -> list[Refusal]:
    refusals: dict[str, Refusal] = {}
    for rejection in reader.rejections(backend):
        reason, record = rejection.reason, rejection.record
        earlier = refusals.get(reason)
        refusals[reason] = (
            Refusal(reason=reason, count=1, example=f"{kind(record)} {_tag(record)!r}")
            if earlier is None
            else msgspec.structs.replace(earlier, count=earlier.count + 1)
        )
    return list(refusals.values())


def _tag(record: Record) -> str:
    match record:
        case Params() | Summary() | Tags():
            return ""
        case Artifact(name=name) | Alert(title=name):
            return name
        case _:
            return record.tag
