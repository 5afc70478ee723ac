"""What of a run can be looked at besides its curves: chosen while the journal is read, in bounded memory.

Of each name the steps are thinned evenly, the first and the last among them; beyond so many names of a kind, and so
many bytes of pictures, nothing more is taken, and what was left out is counted.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from tracelet.backends.presentation import histogram_bars
from tracelet.records import File, Histogram, Image, PRCurve, Record, Table, Text, Video, kind, shown_step

Seen = TypeVar("Seen")
Kept = TypeVar("Kept")

# What every browser shows, and what cannot hold a program. An SVG picture can.
_MEDIA = {"png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
_SPOOL_NAME = re.compile(r"[0-9a-f]{64}(\.[A-Za-z0-9]{1,8})?")
_CHUNK = 1 << 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a run is taken."""

    names: int = 60
    """Of each kind."""
    pictures: int = 12
    """Steps of one name."""
    picture_bytes: int = 4 << 20
    """Of one picture."""
    all_picture_bytes: int = 12 << 20
    histograms: int = 16
    bars: int = 100
    """Of one histogram, about."""
    texts: int = 4
    letters: int = 10_000
    """Of one text."""
    rows: int = 50
    columns: int = 30
    cell: int = 2_000
    """Letters of one cell of a table."""


class Downsample(Generic[Seen, Kept]):
    """At most `most` of any number, spread evenly, the first and the last among them. Only what is kept is `made`."""

    def __init__(self, most: int, make: Callable[[Seen], Kept]) -> None:
        self.count = 0
        self._most, self._make = max(most, 2), make
        self._every = 1
        self._chosen: list[Kept] = []
        self._latest: Seen | None = None

    def add(self, one: Seen) -> None:
        self._latest = None
        if self.count % self._every:
            self._latest = one
        else:
            if len(self._chosen) == self._most - 1:  # the last place is for the latest
                self._chosen = self._chosen[::2]
                self._every *= 2
            if self.count % self._every:
                self._latest = one
            else:
                self._chosen.append(self._make(one))
        self.count += 1

    def kept(self) -> list[Kept]:
        return self._chosen if self._latest is None else [*self._chosen, self._make(self._latest)]


class Picture(NamedTuple):
    step: int
    width: int
    height: int
    media: str | None
    """The media type of what a browser shows; None for every other format."""
    file: File | None

    def data(self, folder: Path, most: int) -> bytes | None:
        """The picture's bytes out of the run in `folder`; None where it is not there, or larger than `most`."""
        file = self.file
        # A journal from elsewhere must not name a file outside of the run's own.
        if file is None or self.media is None or not _SPOOL_NAME.fullmatch(file.name):
            return None
        try:
            with open(folder / "files" / file.name[:2] / file.name, "rb") as source:
                data = source.read(most + 1)
        except OSError:
            return None
        return data if len(data) <= most else None


class HistogramBars(NamedTuple):
    """A histogram in few bars."""

    step: int
    counts: list[float]
    edges: list[float]
    minimum: float
    maximum: float
    number: float
    total: float
    sum_squares: float


class TextExcerpt(NamedTuple):
    """A text, cut to what a page takes; `letters` is its length."""

    step: int
    text: str
    letters: int


class TablePreview(NamedTuple):
    """The beginning of a table; `height` and `width` are its own."""

    step: int
    columns: list[Any]
    rows: list[list[Any]]
    height: int
    width: int
    cut: int = 0
    """How many cells were cut."""


class Gallery:
    """`see` every record of a run, then take what is to be shown."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = told = limits or Limits()
        self.pictures: dict[str, Downsample[Image | Video, Picture]] = {}
        self.histograms: dict[str, Downsample[Histogram, HistogramBars]] = {}
        self.texts: dict[str, Downsample[Text, TextExcerpt]] = {}
        self.pr_curves: dict[str, PRCurve] = {}
        self.tables: dict[str, Table] = {}
        self.crowded_out: Counter[str] = Counter()
        """Records whose name found no room, by kind."""
        self._words = lambda one: TextExcerpt(shown_step(one.step), one.text[: told.letters], len(one.text))
        self._bars = lambda one: _few_bars(one, told.bars)

    def see(self, record: Record) -> None:
        match record:
            case Image() | Video():
                self._thin(self.pictures, record, self.limits.pictures, _picture)
            case Histogram():
                self._thin(self.histograms, record, self.limits.histograms, self._bars)
            case Text():
                self._thin(self.texts, record, self.limits.texts, self._words)
            case PRCurve():
                self._latest(self.pr_curves, record)
            case Table():
                self._latest(self.tables, record)
            case _:
                pass

    def chosen_pictures(self) -> dict[str, list[Picture]]:
        """Of every name the last picture, then, as long as there is room, the earlier ones; each name in order."""
        kept = {tag: found.kept() for tag, found in self.pictures.items()}
        room = self.limits.all_picture_bytes
        chosen: dict[str, list[Picture]] = {tag: [] for tag in kept}
        for back in range(1, 1 + max(map(len, kept.values()), default=0)):
            for tag, pictures in kept.items():
                if back > len(pictures):
                    continue
                size = _size(pictures[-back])
                if size <= min(room, self.limits.picture_bytes):
                    room -= size
                    chosen[tag].insert(0, pictures[-back])
        return chosen

    def sheet(self, table: Table, folder: Path) -> TablePreview | None:
        """The beginning of a table; None where its file is not there, too large to be read here, or no table."""
        if not isinstance(table.data, File) or not _SPOOL_NAME.fullmatch(table.data.name):
            return None
        try:
            with open(folder / "files" / table.data.name[:2] / table.data.name, "rb") as source:
                text = source.read(_CHUNK + 1)
            told = json.loads(text) if len(text) <= _CHUNK else None
        except (OSError, ValueError, RecursionError):
            return None
        return _sheet(shown_step(table.step), told, self.limits)

    def _thin(self, found: dict[str, Any], record: Any, most: int, make: Callable[[Any], Any]) -> None:
        if record.tag not in found:
            if len(found) == self.limits.names:
                self.crowded_out[kind(record)] += 1
                return
            found[record.tag] = Downsample(most, make)
        found[record.tag].add(record)

    def _latest(self, found: dict[str, Any], record: Any) -> None:
        if record.tag in found or len(found) < self.limits.names:
            found[record.tag] = record
        else:
            self.crowded_out[kind(record)] += 1


def _picture(record: Image | Video) -> Picture:
    file = record.data if isinstance(record.data, File) else None
    media = _MEDIA.get(record.format.lower())
    if isinstance(record, Video) and media != "image/gif":  # a moving picture of any other format needs a player
        media = None
    return Picture(shown_step(record.step), record.width, record.height, media, file)


def _size(picture: Picture) -> int:
    return 0 if picture.file is None or picture.media is None else picture.file.size


def _few_bars(h: Histogram, most: int) -> HistogramBars:
    """Buckets narrower than the eye can tell are joined: TensorBoard's are, by the hundred, around zero."""
    counts, edges = histogram_bars(h)
    least = (edges[-1] - edges[0]) / most
    if not 0 < least < math.inf:
        counts, edges = histogram_bars(h, most)
    else:
        joined, ends, waiting = [], [edges[0]], 0.0
        for count, end in zip(counts, edges[1:], strict=True):
            waiting += count
            if end - ends[-1] >= least or end == edges[-1]:
                joined.append(waiting)
                ends.append(end)
                waiting = 0.0
        counts, edges = joined, ends
    return HistogramBars(shown_step(h.step), counts, edges, h.minimum, h.maximum, h.count, h.total, h.sum_squares)


def _sheet(step: int, told: Any, limits: Limits) -> TablePreview | None:
    if not isinstance(told, Mapping):
        return None
    columns, rows = told.get("columns"), told.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, list):
        return None
    kept = [row[: limits.columns] for row in [columns, *rows[: limits.rows]] if isinstance(row, list)]
    shown = [[_cell(one, limits.cell) for one in row] for row in kept]
    cut = sum(len(str(one)) > limits.cell for row in kept for one in row)
    return TablePreview(step, shown[0], shown[1:], len(rows), len(columns), cut)


def _cell(value: Any, most: int) -> Any:
    text = str(value)
    return value if len(text) <= most else f"{text[:most]}…"
