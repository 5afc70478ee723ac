"""What a person wants to know of a run, read from its journal: how it is, its curves in brief, what waits where.

Memory is bounded by the number of series, not by their length: the journal is streamed, and a long curve is kept as
the extremes of equal stretches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from tracelet.backends import pending_upload
from tracelet.errors import JournalError
from tracelet.journal.store import JournalReader, is_live
from tracelet.records import Alert, Artifact, File, Params, Record, RunInfo, Scalar, Summary, Tags, kind, shown_step
from tracelet.runs.folders import all_runs

RunStatus: TypeAlias = Literal["running", "crashed", "finished", "failed", "killed"]

_BARS = "▁▂▃▄▅▆▇█"
_STRETCHES = 256
_MOST_FILES = 100
_MOST_ALERTS = 100


class BackendState(msgspec.Struct, frozen=True, kw_only=True):
    """How far one backend is with a run, as its cursor in the journal says."""

    name: str
    delivered: int
    pending: int
    rejected: int
    filtered: int
    pending_upload: str | None = None
    """Where the vendor's own offline recording lies that its server has not got yet."""
    trouble: str | None = None
    """Why something waited when the run, or the last delivery of it, ended."""
    url: str | None = None
    """Where a person could look at the run when it was last delivered to."""


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One run in a line. `seen` is its end, or the last sign of life of one that did not end."""

    info: RunInfo
    folder: Path
    status: RunStatus
    seen: float
    records: int
    backends: tuple[BackendState, ...]
    exit_code: int | None = None
    """None while the run goes on, and where its process had no time to say."""

    @property
    def duration(self) -> float:
        """Seconds from the run's start to its end, so far, or to its last sign of life."""
        return max(0.0, self.seen - self.info.created)


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A run folder whose journal cannot be read, and why."""

    folder: Path
    reason: str


class Point(NamedTuple):
    """One point of a curve; `at` is its place in the order of the program, from 1."""

    at: int
    step: int
    value: float


class _Bucket:
    """The lowest and highest number of consecutive points, and the first that is none (NaN or infinite)."""

    __slots__ = ("high", "low", "odd")

    def __init__(self) -> None:
        self.low: Point | None = None
        self.high: Point | None = None
        self.odd: Point | None = None

    def add(self, at: int, step: int, value: float) -> None:
        # Called for every point of a run: a Point is made only for those that are kept.
        if not math.isfinite(value):
            self.odd = self.odd or Point(at, step, value)
            return
        if self.low is None or value < self.low.value:
            self.low = Point(at, step, value)
        if self.high is None or value > self.high.value:
            self.high = Point(at, step, value)

    def kept(self) -> list[Point]:
        return [point for point in (self.low, self.high, self.odd) if point is not None]


class DownsampledSeries:
    """One curve in brief. `minimum` and `maximum` leave NaN out, and are NaN where there is nothing else."""

    def __init__(self, tag: str, stretches: int = _STRETCHES) -> None:
        self.tag = tag
        self.count = 0
        self.nans = 0
        self.first = self.last = self.minimum = self.maximum = math.nan
        self._most = 2 * stretches
        self._width = 1
        self._stretches: list[_Bucket] = []

    def add(self, step: int, value: float) -> None:
        if self.count == 0:
            self.first = value
        if self.count == self._width * self._most:
            pairs = zip(self._stretches[::2], self._stretches[1::2], strict=True)
            self._stretches = [_joined(one, two) for one, two in pairs]
            self._width *= 2
        if self.count % self._width == 0:
            self._stretches.append(_Bucket())
        self.count += 1
        self.last = value
        if value != value:
            self.nans += 1
        else:
            # Written so that the NaN of an empty series gives way.
            if not self.minimum <= value:
                self.minimum = value
            if not self.maximum >= value:
                self.maximum = value
        self._stretches[-1].add(self.count, step, value)

    def points(self) -> list[Point]:
        """Every point of a short curve; of a long one the extremes of each stretch, and what is not finite."""
        return sorted({point for stretch in self._stretches for point in stretch.kept()})

    def sparkline(self, width: int = 20) -> str:
        """The curve as at most `width` characters."""
        return sparkline([point.value for point in self.points()], width)


class ArtifactLine(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact's last version."""

    name: str
    files: int
    size: int
    versions: int
    type: str = "file"
    listed: tuple[File, ...] = ()
    """The files, at most a hundred of them."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Records that a backend refused for one reason."""

    reason: str
    count: int
    example: str
    """Kind and name of the first of them."""


class RunReport(msgspec.Struct, kw_only=True):
    """Everything `tracelet show` shows of a run."""

    summary: RunSummary
    params: dict[str, Any]
    scalars: dict[str, DownsampledSeries]
    others: dict[str, dict[str, int]]
    """Records of every other kind: kind -> name -> how many."""
    artifacts: dict[str, ArtifactLine]
    refusals: dict[str, list[Refusal]]
    """Backend -> what it refused."""
    damaged: list[str]
    """What of the journal could not be read."""
    final: dict[str, Any]
    """The final figures that the program gave."""
    tags: list[str]
    """Those that the run began with, and those it was given since."""
    alerts: list[Alert]
    """The last of them; `others` has their number."""
    git: dict[str, Any] = {}
    """The commit that the program ran at."""
    environment: dict[str, Any] = {}
    """What the program ran on."""


def summarise(folder: Path) -> RunSummary:
    """The run in `folder` in a line.

    Raises:
        JournalError: there is no readable journal.
    """
    with JournalReader(folder) as reader:
        info, facts, records, cursors = reader.info(), reader.facts(), reader.last(), reader.cursors()
    status, seen = facts.get("status", "running"), facts.get("ended")
    if status == "running":
        # A process that was killed outright could not write down how it ended.
        live = is_live(folder)
        status = "running" if live else "crashed"
        seen = time.time() if live else facts.get("owner", {}).get("beat")
    states = tuple(
        BackendState(
            name=name,
            delivered=cursor.delivered,
            pending=max(0, records - cursor.delivered - cursor.rejected - cursor.filtered),
            rejected=cursor.rejected,
            filtered=cursor.filtered,
            pending_upload=pending_upload(name, folder),
            trouble=facts.get(f"trouble {name}"),
            url=facts.get(f"url {name}"),
        )
        for name, cursor in cursors.items()
    )
    return RunSummary(
        info=info,
        folder=folder,
        status=status,
        seen=info.created if seen is None else seen,
        records=records,
        backends=states,
        exit_code=None if status in ("running", "crashed") else facts.get("exit_code"),
    )


def summaries(base: Path) -> Iterator[RunSummary | Unreadable]:
    """Every run under `base`, by when it began; one that cannot be read comes first, and does not hide the others."""
    found: list[RunSummary] = []
    for folder in all_runs(base):
        try:
            found.append(summarise(folder))
        except JournalError as error:
            yield Unreadable(folder=folder, reason=str(error))
    yield from sorted(found, key=lambda one: one.info.created)


def read(folder: Path, *, stretches: int = _STRETCHES, see: Callable[[Record], None] | None = None) -> RunReport:
    """All of the run in `folder`; a curve keeps at most six points for each of `stretches`.

    `see` is shown every record that is no scalar, in the order of the program.

    Raises:
        JournalError: there is no readable journal.
    """
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
        known = reader.facts()
        report.git, report.environment = known.get("git", {}), known.get("environment", {})
        position = 0
        while batch := reader.next_batch(position):
            if batch.damaged:
                report.damaged.append(batch.damaged)
            for record in batch.records:
                if isinstance(record, Scalar):
                    series = report.scalars.get(record.tag)
                    if series is None:
                        series = report.scalars[record.tag] = DownsampledSeries(record.tag, stretches)
                    series.add(shown_step(record.step), record.value)
                else:
                    _note(report, record)
                    if see is not None:
                        see(record)
            position = batch.last
        for state in report.summary.backends:
            if state.rejected:
                report.refusals[state.name] = _refusals(reader, state.name)
    return report


def sparkline(values: Sequence[float], width: int = 20) -> str:
    """Values as at most `width` bars; "×" is NaN, "↑" and "↓" are the infinities, and none is averaged away."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    width = min(width, len(values))
    return "".join(
        _bar(values[len(values) * at // width : len(values) * (at + 1) // width], low, high) for at in range(width)
    )


def _bar(values: Sequence[float], low: float, high: float) -> str:
    odd = next((value for value in values if not math.isfinite(value)), None)
    if odd is not None:
        return "×" if odd != odd else "↑" if odd > 0 else "↓"
    if low == high:
        return _BARS[len(_BARS) // 2 - 1]
    # Divided first: the sum of the values, or the span, may be beyond the largest float; half of the smallest is none.
    mean = sum(value / len(values) for value in values)
    part = 1.0 if math.isfinite(high - low) else 0.5
    share = (mean * part - low * part) / (high * part - low * part)
    return _BARS[max(0, min(int(share * len(_BARS)), len(_BARS) - 1))]


def _joined(one: _Bucket, two: _Bucket) -> _Bucket:
    both = _Bucket()
    for point in (*one.kept(), *two.kept()):
        both.add(*point)
    return both


def _note(report: RunReport, record: Record) -> None:
    match record:
        case Params(values):
            report.params.update(values)
        case Summary(values):
            report.final.update(values)
        case Tags(tags):
            report.tags = list(dict.fromkeys([*report.tags, *tags]))
        case Alert():
            report.alerts = [*report.alerts[1 - _MOST_ALERTS :], record]
            _count(report, record)
        case Artifact(name=name, files=files, type=type):
            earlier = report.artifacts.get(name)
            report.artifacts[name] = ArtifactLine(
                name=name,
                files=len(files),
                size=sum(file.size for file in files),
                versions=1 + (earlier.versions if earlier else 0),
                type=type,
                listed=files[:_MOST_FILES],
            )
        case _:
            _count(report, record)


def _count(report: RunReport, record: Record) -> None:
    names = report.others.setdefault(kind(record), {})
    tag = _tag(record)
    names[tag] = names.get(tag, 0) + 1


def _refusals(reader: JournalReader, backend: str) -> list[Refusal]:
    found: dict[str, Refusal] = {}
    for one in reader.rejections(backend):
        known = found.get(one.reason)
        found[one.reason] = (
            Refusal(reason=one.reason, count=1, example=f"{kind(one.record)} {_tag(one.record)!r}")
            if known is None
            else msgspec.structs.replace(known, count=known.count + 1)
        )
    return list(found.values())


def _tag(record: Record) -> str:
    match record:
        case Params() | Summary() | Tags():
            return ""
        case Artifact(name=name) | Alert(title=name):
            return name
        case _:
            return record.tag
