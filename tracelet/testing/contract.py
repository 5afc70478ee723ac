"""The exam that every backend sits."""

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
    """What a store gives back, in neutral words. None where it cannot be asked: `BackendContract.unreadable`."""

    scalars: list[Point] | None = None
    """(tag, step, value, wall time), in the order of the store."""
    params: dict[str, Any] | None = None
    texts: list[tuple[str, int, str]] | None = None
    """(tag, step, text)."""
    images: dict[tuple[str, int], bytes] | None = None
    """The encoded picture by (tag, step)."""
    histograms: list[tuple[str, int, tuple[float, ...], tuple[float, ...]]] | None = None
    """(tag, step, limits, counts)."""
    artifacts: dict[str, bytes] | None = None
    """The content by path."""
    summary: dict[str, Any] | None = None
    """The final figures, the last of each."""
    tags: list[str] | None = None
    """The run's tags, in any order."""
    alerts: list[tuple[str, str, str]] | None = None
    """(title, text, level), in the order of the program."""
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How many of a kind (`tracelet.records.kind`) the store shows, for kinds that can be counted only."""


def run_info(tmp_path: Path, run_id: str = "contract-run") -> RunInfo:
    """A run whose folder is `tmp_path/run`."""
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    return RunInfo(
        run_id=run_id, project="contract", name="a run", folder=str(folder), tags=("exam",), created=WALL_TIME
    )


class BackendContract:
    """The exam. Subclass it as `Test...`, bring the two hooks, and declare where the vendor's store differs.

    The store of one exam lives below `tmp_path`: `make_backend` may be called again for the same one.
    """

    unreadable: frozenset[str] = frozenset()
    """Fields of `Stored` that this store cannot show; where `Stored.counts` has the kind, it is counted instead."""
    knows_its_store = False
    """Whether `durable_seq()` right after `open` says how far the store is."""
    ordered = True
    """Whether the store shows the points of a series in the order of the calls."""
    wall_time_error = 0.0
    """Seconds by which a stored wall time may differ."""

    def make_backend(self, tmp_path: Path) -> Backend:
        """A backend that is not open yet, whose store is below `tmp_path`."""
        raise NotImplementedError

    def read_back(self, tmp_path: Path) -> Stored:
        """What the store holds, read without the backend, after it was closed."""
        raise NotImplementedError

    # How the store shows what it was given, where it is not the same.

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

    # The exam.

    def test_every_kind_is_taken_or_filtered(self, tmp_path: Path) -> None:
        """No kind is refused, none is lost: each is in the store, or of a kind that the backend does not accept."""
        backend = self._opened(tmp_path)
        records = sample_records(tmp_path)

        outcome = deliver(backend, records)
        backend.close("finished", 0)

        assert [] == outcome.rejected
        assert len(records) == len(outcome.delivered) + len(outcome.filtered)
        self._assert_counts(tmp_path, outcome)

    def test_steps_are_kept_as_given(self, tmp_path: Path) -> None:
        """Steps that go back, repeat, are huge or missing: no point moves or goes."""
        steps = (0, 10**12, 5, 5, 4, None, 7)
        self._compare_scalars(tmp_path, [_scalar("loss", i / 8, step, i) for i, step in enumerate(steps)])

    def test_floats_are_kept_to_the_bit(self, tmp_path: Path) -> None:
        """NaN, the infinities, -0.0, subnormals, 2**53: each comes back as it was, or as the declared substitute."""
        self._compare_scalars(tmp_path, [_scalar("value", value, i, i) for i, value in enumerate(AWKWARD_FLOATS)])

    def test_awkward_tags_stay_distinct(self, tmp_path: Path) -> None:
        """Whatever a tag is made of, its point arrives, and under a name that no other tag has."""
        shown = Counter(self.shown_tag(tag) for tag in AWKWARD_TAGS)
        assert {} == {name: number for name, number in shown.items() if number > 1}
        self._compare_scalars(tmp_path, [_scalar(tag, float(i), 1, i) for i, tag in enumerate(AWKWARD_TAGS)])

    def test_repeated_points_are_kept(self, tmp_path: Path) -> None:
        """A (tag, step) that is logged three times is three points."""
        self._compare_scalars(tmp_path, [_scalar("loss", value, 1, i) for i, value in enumerate((0.5, 0.25, 0.5))])

    def test_2500_metrics_at_one_step(self, tmp_path: Path) -> None:
        """One batch with more metrics at a step than any vendor takes in one request."""
        self._compare_scalars(tmp_path, [_scalar(f"m{i}", i / 2, 1, 0) for i in range(2500)])

    def test_batches_of_one(self, tmp_path: Path) -> None:
        """How records are cut into batches does not show."""
        self._compare_scalars(tmp_path, [_scalar(f"m{i % 3}", i / 2, i, i) for i in range(20)], size=1)

    def test_params_merge_and_the_later_wins(self, tmp_path: Path) -> None:
        records = [
            Params({"lr": 0.1, "model.name": "net", "layers": [1, 2], "none": None}, WALL_TIME),
            Params({"lr": 0.2, "debug": True}, WALL_TIME + 1),
        ]
        expected = {"lr": 0.2, "model.name": "net", "layers": [1, 2], "none": None, "debug": True}
        self._compare(tmp_path, records, "params", self.shown_params(expected))

    def test_summary_figures_merge_and_the_later_wins(self, tmp_path: Path) -> None:
        """Also over two openings of the run."""
        first = Summary({"best": 0.5, "val.f1": 0.25, "why": "early", "done": False, "none": None}, WALL_TIME)
        second = Summary({"best": 1 / 3, "epochs": 20}, WALL_TIME)
        third = Summary({"done": True, "classes": ["a", "b"]}, WALL_TIME + 1)
        expected = {**first.values, **second.values, **third.values}
        self._compare(tmp_path, [first, second], "summary", self.shown_summary({**first.values, **second.values}))
        self._compare(tmp_path, [third], "summary", self.shown_summary(expected), after=2)

    def test_tags_are_added_once(self, tmp_path: Path) -> None:
        """Beside those that the run began with, and over two openings of the run."""
        said = [Tags(("a", "two words"), WALL_TIME), Tags(("a", "exam", "é"), WALL_TIME + 1), Tags(("b",), WALL_TIME)]
        self._compare_tags(tmp_path, said[:2], ["a", "exam", "two words", "é"])
        self._compare_tags(tmp_path, said[2:], ["a", "b", "exam", "two words", "é"], after=2)

    def test_alerts_are_kept(self, tmp_path: Path) -> None:
        """Each with its words and level; one that is said again at another time is there again."""
        said = [("loss is NaN", "at step 7\n«ü»", "error"), ("slow", "", "warning"), ("slow", "", "warning")]
        records = [Alert(*words, WALL_TIME + at) for at, words in enumerate([*said, ("done", "a,b", "info")])]
        self._compare(tmp_path, records, "alerts", [(one.title, one.text, one.level) for one in records])

    def test_images_are_kept_to_the_byte(self, tmp_path: Path) -> None:
        colors = {("digits", 1): (255, 0, 0), ("digits", 2): (0, 255, 0), ("Digits/x", 1): (1, 2, 3)}
        records = [image(tmp_path, tag, step, color) for (tag, step), color in colors.items()]
        expected = {(self.shown_tag(one.tag), self.shown_step(one.step)): _bytes(one.data) for one in records}
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
        """A file is at the path it was given, the files of a folder below it; also an empty one."""
        records = artifacts(tmp_path)
        plot, model = records
        expected = {plot.name: _bytes(plot.files[0])} | {model.name + one.name: _bytes(one) for one in model.files}
        self._compare(tmp_path, records, "artifacts", expected)

    def test_confirm_ends_at_the_last_record(self, tmp_path: Path) -> None:
        """`durable_seq` is never ahead of what was handed over, and closing leaves nothing unconfirmed."""
        backend = self._opened(tmp_path)
        deliver(backend, [_scalar("loss", 0.5, i, i) for i in range(10)], size=3)
        backend.close("finished", 0)
        assert 10 == backend.durable_seq()

    def test_reopening_appends(self, tmp_path: Path) -> None:
        """A run that is opened again goes on where it was: nothing is lost, nothing is there twice."""
        records = [_scalar("loss", i / 4, i, i) for i in range(9)]
        for end in (4, 9):
            backend = self._opened(tmp_path)
            held = backend.durable_seq()
            begin = 0 if end == 4 else 4
            if self.knows_its_store:
                assert begin == (held or 0)
            deliver(backend, records[begin:end], after=begin)
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
        """A file that is gone, a table that is none: refused or taken, and the record behind it arrives."""
        gone = File(name="gone.png", digest="0" * 64, size=3, path=str(tmp_path / "gone.png"))
        broken = stored(tmp_path, b'{"columns": 1', "t.json")
        good = _scalar("loss", 0.5, 1, 1)
        backend = self._opened(tmp_path)
        records: list[Record] = [
            Image("gone", gone, "png", 1, 1, 1, WALL_TIME),
            Artifact("gone.bin", (gone,), WALL_TIME),
            Table("broken", broken, 1, WALL_TIME),
        ]
        for number, record in enumerate(records):
            try:
                deliver(backend, [record], after=number)
            except BackendUnavailable as error:
                raise AssertionError(f"{kind_of(record)} would be offered for ever: {error}") from error
        deliver(backend, [good], after=len(records))
        backend.close("finished", 0)
        self._assert_scalars(tmp_path, [good])

    # The exam's own tools.

    def _opened(self, tmp_path: Path) -> Backend:
        backend = self.make_backend(tmp_path)
        backend.open(run_info(tmp_path))
        return backend

    def _read(self, tmp_path: Path) -> Stored:
        found = self.read_back(tmp_path)
        missing = {one.name for one in dataclasses.fields(Stored) if getattr(found, one.name) is None}
        assert missing <= self.unreadable, f"read_back gives no {missing - self.unreadable}, which is not declared"
        return found

    def _compare(
        self, tmp_path: Path, records: Sequence[Record], field: str, expected: object, *, after: int = 0
    ) -> None:
        found = self._taken(tmp_path, records, field, after)
        if found is not None:
            assert expected == found

    def _compare_tags(self, tmp_path: Path, records: Sequence[Record], expected: list[str], after: int = 0) -> None:
        """A vendor may have tags of its own beside them."""
        found = self._taken(tmp_path, records, "tags", after)
        if found is not None:
            assert expected == sorted(tag for tag in found if tag in expected)

    def _taken(self, tmp_path: Path, records: Sequence[Record], field: str, after: int) -> Any:
        """What the store shows of a field once it has these records; None where it cannot be asked, or filters them."""
        backend = self._opened(tmp_path)
        outcome = deliver(backend, records, after=after)
        backend.close("finished", 0)
        assert [] == outcome.rejected
        if after:  # the counts are those of the store, earlier openings included
            found = self._read(tmp_path)
        else:
            found = self._assert_counts(tmp_path, outcome)
        return None if outcome.filtered or field in self.unreadable else getattr(found, field)

    def _compare_scalars(self, tmp_path: Path, records: Sequence[Scalar], size: int | None = None) -> None:
        backend = self._opened(tmp_path)
        outcome = deliver(backend, records, size=size)
        backend.close("finished", 0)
        assert [] == outcome.rejected
        self._assert_counts(tmp_path, outcome)
        self._assert_scalars(tmp_path, records)

    def _assert_counts(self, tmp_path: Path, outcome: Outcome) -> Stored:
        found = self._read(tmp_path)
        sent = Counter(kind_of(record) for record in outcome.delivered)
        assert {one: sent[one] for one in found.counts} == dict(found.counts)
        return found

    def _assert_scalars(self, tmp_path: Path, records: Sequence[Scalar]) -> None:
        """Series by series: stores keep no order between two of them."""
        found = self._read(tmp_path).scalars
        if found is None:
            return
        expected = [
            (self.shown_tag(one.tag), self.shown_step(one.step), self.shown_value(one.value), one.wall_time)
            for one in records
        ]
        expected_series, found_series = _series(expected, self.ordered), _series(found, self.ordered)
        assert sorted(expected_series) == sorted(found_series)
        for tag, points in expected_series.items():
            # repr: NaN equals itself, and -0.0 is not 0.0.
            assert [(step, value) for step, value, _ in points] == [
                (step, value) for step, value, _ in found_series[tag]
            ]
            for (*_, mine), (*_, theirs) in zip(points, found_series[tag], strict=True):
                assert abs(mine - theirs) <= self.wall_time_error


def _series(points: Sequence[Point], ordered: bool) -> dict[str, list[tuple[int, str, float]]]:
    series: dict[str, list[tuple[int, str, float]]] = {}
    for tag, step, value, wall_time in points:
        series.setdefault(tag, []).append((step, repr(value), wall_time))
    return series if ordered else {tag: sorted(points) for tag, points in series.items()}


def _scalar(tag: str, value: float, step: int | None, second: int) -> Scalar:
    return Scalar(tag, value, step, WALL_TIME + second)


def _bytes(payload: File | bytes) -> bytes:
    return payload if isinstance(payload, bytes) else Path(payload.path).read_bytes()
