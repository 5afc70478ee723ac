"""The contract tests of every backend."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracelet.backends.base import Backend
from tracelet.errors import BackendUnavailable
from tracelet.records import Alert, Artifact, File, Image, Params, Record, RunInfo, Scalar, Summary, Table, Tags, Text
from tracelet.records import kind as kind_of
from tracelet.records import shown_step as _shown_step
from tracelet.testing.deliver import Outcome, deliver
from tracelet.testing.samples import (
    AWKWARD_FLOATS,
    AWKWARD_TAGS,
    WALL_TIME,
    artifacts,
    histogram,
    image,
    sample_records,
    stored,
)

Point = tuple[str, int, float, float]


@dataclasses.dataclass(kw_only=True)
class Stored:
    """The content of a store in a neutral form. None if a field is in `BackendContract.unreadable`."""

    scalars: list[Point] | None = None
    """(tag, step, value, wall time), in the order of the store."""
    params: dict[str, Any] | None = None
    texts: list[tuple[str, int, str]] | None = None
    """(tag, step, text)."""
    images: dict[tuple[str, int], bytes] | None = None
    """The encoded image by (tag, step)."""
    histograms: list[tuple[str, int, tuple[float, ...], tuple[float, ...]]] | None = None
    """(tag, step, limits, counts)."""
    artifacts: dict[str, bytes] | None = None
    """The content by path."""
    summary: dict[str, Any] | None = None
    """The last value of each summary metric."""
    tags: list[str] | None = None
    """The run's tags, in any order."""
    alerts: list[tuple[str, str, str]] | None = None
    """(title, text, level), in the order of the calls."""
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Number of records by kind (`tracelet.records.kind`), for kinds that can only be counted."""


def run_info(tmp_path: Path, run_id: str = "contract-run") -> RunInfo:
    """Return a run whose folder is `tmp_path/run`."""
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    return RunInfo(
        run_id=run_id, project="contract", name="a run", folder=str(folder), tags=("contract",), created=WALL_TIME
    )


class BackendContract:
    """Contract tests. Subclass as `Test...`, implement the two hooks, and declare the differences of the store.

    The store of one test is below `tmp_path`. `make_backend` may be called again for the same store.
    """

    unreadable: frozenset[str] = frozenset()
    """Fields of `Stored` that this store cannot return. If `Stored.counts` has the kind, its count is tested."""
    knows_its_store = False
    """True if `open` returns the position of the store."""
    ordered = True
    """True if the store returns the points of a series in the order of the calls."""
    wall_time_error = 0.0
    """Allowed difference of a stored wall time, in seconds."""

    def make_backend(self, tmp_path: Path) -> Backend:
        """Return a backend that is not open yet, with its store below `tmp_path`."""
        raise NotImplementedError

    def read_back(self, tmp_path: Path) -> Stored:
        """Read the store without the backend, after it was closed."""
        raise NotImplementedError

    # Conversions of the store. Override them if the store changes a value.

    def shown_tag(self, tag: str) -> str:
        return tag

    def shown_step(self, step: int | None) -> int:
        return _shown_step(step)

    def shown_value(self, value: float) -> float:
        return value

    def shown_params(self, values: dict[str, Any]) -> dict[str, Any]:
        return values

    def shown_summary(self, values: dict[str, Any]) -> dict[str, Any]:
        return values

    # The tests.

    def test_every_kind_is_taken_or_filtered(self, tmp_path: Path) -> None:
        """No record is rejected or lost: each is in the store, or of a kind that the backend does not accept."""
        backend = self._opened(tmp_path)
        records = sample_records(tmp_path)

        outcome = deliver(backend, records)
        backend.close("finished", 0)

        assert [] == outcome.rejected
        assert len(records) == len(outcome.delivered) + len(outcome.filtered)
        self._assert_counts(tmp_path, outcome)

    def test_steps_are_kept_as_given(self, tmp_path: Path) -> None:
        """Steps may decrease, repeat, be huge or missing. No point changes or is lost."""
        steps = (0, 10**12, 5, 5, 4, None, 7)
        self._compare_scalars(tmp_path, [_scalar("loss", i / 8, step, i) for i, step in enumerate(steps)])

    def test_floats_are_kept_to_the_bit(self, tmp_path: Path) -> None:
        """NaN, the infinities, -0.0, subnormals, 2**53: each is stored exactly, or as the declared substitute."""
        self._compare_scalars(tmp_path, [_scalar("value", value, i, i) for i, value in enumerate(AWKWARD_FLOATS)])

    def test_awkward_tags_stay_distinct(self, tmp_path: Path) -> None:
        """Points of any tag arrive, under a name that no other tag has."""
        shown = Counter(self.shown_tag(tag) for tag in AWKWARD_TAGS)
        assert {} == {name: number for name, number in shown.items() if number > 1}
        self._compare_scalars(tmp_path, [_scalar(tag, float(i), 1, i) for i, tag in enumerate(AWKWARD_TAGS)])

    def test_repeated_points_are_kept(self, tmp_path: Path) -> None:
        """If a (tag, step) is logged three times, there are three points."""
        self._compare_scalars(tmp_path, [_scalar("loss", value, 1, i) for i, value in enumerate((0.5, 0.25, 0.5))])

    def test_2500_metrics_at_one_step(self, tmp_path: Path) -> None:
        """A batch may have more metrics of one step than any vendor accepts in one request."""
        self._compare_scalars(tmp_path, [_scalar(f"m{i}", i / 2, 1, 0) for i in range(2500)])

    def test_batches_of_one(self, tmp_path: Path) -> None:
        """The batch size does not change the result."""
        self._compare_scalars(tmp_path, [_scalar(f"m{i % 3}", i / 2, i, i) for i in range(20)], size=1)

    def test_params_merge_and_the_later_wins(self, tmp_path: Path) -> None:
        records = [
            Params({"lr": 0.1, "model.name": "net", "layers": [1, 2], "none": None}, WALL_TIME),
            Params({"lr": 0.2, "debug": True}, WALL_TIME + 1),
        ]
        expected = {"lr": 0.2, "model.name": "net", "layers": [1, 2], "none": None, "debug": True}
        self._compare(tmp_path, records, "params", self.shown_params(expected))

    def test_summary_figures_merge_and_the_later_wins(self, tmp_path: Path) -> None:
        """Also if the run is opened twice."""
        first = Summary({"best": 0.5, "val.f1": 0.25, "why": "early", "done": False, "none": None}, WALL_TIME)
        second = Summary({"best": 1 / 3, "epochs": 20}, WALL_TIME)
        third = Summary({"done": True, "classes": ["a", "b"]}, WALL_TIME + 1)
        expected = {**first.values, **second.values, **third.values}
        self._compare(tmp_path, [first, second], "summary", self.shown_summary({**first.values, **second.values}))
        self._compare(tmp_path, [third], "summary", self.shown_summary(expected), after=2)

    def test_tags_are_added_once(self, tmp_path: Path) -> None:
        """Tags are added to those of the run's start, also if the run is opened twice."""
        first = [Tags(("a", "two words"), WALL_TIME), Tags(("a", "contract", "é"), WALL_TIME + 1)]
        self._compare_tags(tmp_path, first, ["a", "contract", "two words", "é"])
        self._compare_tags(tmp_path, [Tags(("b",), WALL_TIME)], ["a", "b", "contract", "two words", "é"], after=2)

    def test_alerts_are_kept(self, tmp_path: Path) -> None:
        """Title, text and level are kept. An alert that is repeated at another time is there again."""
        alerts = [("loss is NaN", "at step 7\n«ü»", "error"), ("slow", "", "warning"), ("slow", "", "warning")]
        records = [Alert(*alert, WALL_TIME + i) for i, alert in enumerate([*alerts, ("done", "a,b", "info")])]
        self._compare(tmp_path, records, "alerts", [(alert.title, alert.text, alert.level) for alert in records])

    def test_images_are_kept_to_the_byte(self, tmp_path: Path) -> None:
        colors = {("digits", 1): (255, 0, 0), ("digits", 2): (0, 255, 0), ("Digits/x", 1): (1, 2, 3)}
        records = [image(tmp_path, tag, step, color) for (tag, step), color in colors.items()]
        expected = {(self.shown_tag(r.tag), self.shown_step(r.step)): _bytes(r.data) for r in records}
        self._compare(tmp_path, records, "images", expected)

    def test_histograms_keep_their_buckets(self, tmp_path: Path) -> None:
        records = [histogram("weights", 1), histogram("weights", 2)]
        expected = [(self.shown_tag(h.tag), self.shown_step(h.step), h.limits, h.counts) for h in records]
        self._compare(tmp_path, records, "histograms", expected)

    def test_texts_are_kept(self, tmp_path: Path) -> None:
        texts = ("plain", 'a,b\n"c"\r\n| d |\u2028«é» \U0001f680', "")
        records = [Text("notes", text, step, WALL_TIME) for step, text in enumerate(texts)]
        expected = [(self.shown_tag("notes"), self.shown_step(step), text) for step, text in enumerate(texts)]
        self._compare(tmp_path, records, "texts", expected)

    def test_artifacts_keep_their_paths(self, tmp_path: Path) -> None:
        """A file is at its path, and the files of a folder are below it, including an empty file."""
        records = artifacts(tmp_path)
        plot, model = records
        expected = {plot.name: _bytes(plot.files[0])} | {model.name + file.name: _bytes(file) for file in model.files}
        self._compare(tmp_path, records, "artifacts", expected)

    def test_artifacts_of_any_names_are_kept(self, tmp_path: Path) -> None:
        """Also a file with the name of another's folder, a folder with that of a file, and a name of 300 letters."""
        names = ("a.b", "a.b/c.txt", "d/e.txt", "d", "n" * 300 + ".txt")
        records = [Artifact(name, (stored(tmp_path, name.encode(), "f"),), WALL_TIME) for name in names]
        backend = self._opened(tmp_path)
        outcome = deliver(backend, records)
        backend.close("finished", 0)
        kept = self._read(tmp_path).artifacts
        assert outcome.filtered or kept is None or {name.encode() for name in names} <= set(kept.values())

    def test_durable_ends_at_the_last_record(self, tmp_path: Path) -> None:
        """`durable` is never ahead of the last delivered record, and reaches it at `close`."""
        backend = self._opened(tmp_path)
        deliver(backend, [_scalar("loss", 0.5, i, i) for i in range(10)], size=3)
        backend.close("finished", 0)
        assert backend.durable() in (10, None)

    def test_reopening_appends(self, tmp_path: Path) -> None:
        """A reopened run resumes: no record is lost or duplicated."""
        records = [_scalar("loss", i / 4, i, i) for i in range(9)]
        for end in (4, 9):
            backend = self.make_backend(tmp_path)
            position = backend.open(run_info(tmp_path))
            start = 0 if end == 4 else 4
            if self.knows_its_store:
                assert start == position
            deliver(backend, records[start:end], after=start)
            backend.close("finished", 0)
        self._assert_scalars(tmp_path, records)

    def test_closing_twice_is_harmless(self, tmp_path: Path) -> None:
        records = [_scalar("loss", 0.5, 1, 1)]
        backend = self._opened(tmp_path)
        deliver(backend, records)
        backend.close("failed", 1)
        backend.close("failed", 1)
        self._assert_scalars(tmp_path, records)

    def test_only_the_two_errors_leave(self, tmp_path: Path) -> None:
        """A missing file or an invalid table is rejected or accepted, and the next record arrives."""
        missing = File(name="gone.png", digest="0" * 64, size=3, path=str(tmp_path / "gone.png"))
        broken = stored(tmp_path, b'{"columns": 1', "t.json")
        good = _scalar("loss", 0.5, 1, 1)
        backend = self._opened(tmp_path)
        records: list[Record] = [
            Image("gone", missing, "png", 1, 1, 1, WALL_TIME),
            Artifact("gone.bin", (missing,), WALL_TIME),
            Table("broken", broken, 1, WALL_TIME),
        ]
        for number, record in enumerate(records):
            try:
                deliver(backend, [record], after=number)
            except BackendUnavailable as error:
                raise AssertionError(f"{kind_of(record)} must be rejected, not retried forever: {error}") from error
        deliver(backend, [good], after=len(records))
        backend.close("finished", 0)
        self._assert_scalars(tmp_path, [good])

    # Helpers.

    def _opened(self, tmp_path: Path) -> Backend:
        backend = self.make_backend(tmp_path)
        backend.open(run_info(tmp_path))
        return backend

    def _read(self, tmp_path: Path) -> Stored:
        content = self.read_back(tmp_path)
        missing = {field.name for field in dataclasses.fields(Stored) if getattr(content, field.name) is None}
        assert missing <= self.unreadable, f"read_back must return {missing - self.unreadable}"
        return content

    def _compare(
        self, tmp_path: Path, records: Sequence[Record], field: str, expected: object, *, after: int = 0
    ) -> None:
        actual = self._deliver(tmp_path, records, field, after)
        if actual is not None:
            assert expected == actual

    def _compare_tags(self, tmp_path: Path, records: Sequence[Record], expected: list[str], after: int = 0) -> None:
        """Compare the tags, except for those that the vendor added."""
        actual = self._deliver(tmp_path, records, "tags", after)
        if actual is not None:
            assert expected == sorted(tag for tag in actual if tag in expected)

    def _deliver(self, tmp_path: Path, records: Sequence[Record], field: str, after: int) -> Any:
        """Deliver records and return the stored field. None if it is unreadable, or if records were filtered."""
        backend = self._opened(tmp_path)
        outcome = deliver(backend, records, after=after)
        backend.close("finished", 0)
        assert [] == outcome.rejected
        if after:  # the counts of the store include earlier records
            content = self._read(tmp_path)
        else:
            content = self._assert_counts(tmp_path, outcome)
        return None if outcome.filtered or field in self.unreadable else getattr(content, field)

    def _compare_scalars(self, tmp_path: Path, records: Sequence[Scalar], size: int | None = None) -> None:
        backend = self._opened(tmp_path)
        outcome = deliver(backend, records, size=size)
        backend.close("finished", 0)
        assert [] == outcome.rejected
        self._assert_counts(tmp_path, outcome)
        self._assert_scalars(tmp_path, records)

    def _assert_counts(self, tmp_path: Path, outcome: Outcome) -> Stored:
        content = self._read(tmp_path)
        delivered = Counter(kind_of(record) for record in outcome.delivered)
        assert {kind: delivered[kind] for kind in content.counts} == dict(content.counts)
        return content

    def _assert_scalars(self, tmp_path: Path, records: Sequence[Scalar]) -> None:
        """Compare each series separately, since stores keep no order between series."""
        actual = self._read(tmp_path).scalars
        if actual is None:
            return
        expected = [
            (self.shown_tag(r.tag), self.shown_step(r.step), self.shown_value(r.value), r.wall_time) for r in records
        ]
        expected_series, actual_series = _series(expected, self.ordered), _series(actual, self.ordered)
        assert sorted(expected_series) == sorted(actual_series)
        for tag, points in expected_series.items():
            # repr: NaN equals NaN, and -0.0 differs from 0.0.
            assert [(step, value) for step, value, _ in points] == [
                (step, value) for step, value, _ in actual_series[tag]
            ]
            for (*_, expected_time), (*_, actual_time) in zip(points, actual_series[tag], strict=True):
                assert abs(expected_time - actual_time) <= self.wall_time_error


def _series(points: Sequence[Point], ordered: bool) -> dict[str, list[tuple[int, str, float]]]:
    series: dict[str, list[tuple[int, str, float]]] = {}
    for tag, step, value, wall_time in points:
        series.setdefault(tag, []).append((step, repr(value), wall_time))
    return series if ordered else {tag: sorted(points) for tag, points in series.items()}


def _scalar(tag: str, value: float, step: int | None, second: int) -> Scalar:
    return Scalar(tag, value, step, WALL_TIME + second)


def _bytes(payload: File | bytes) -> bytes:
    return payload if isinstance(payload, bytes) else Path(payload.path).read_bytes()
