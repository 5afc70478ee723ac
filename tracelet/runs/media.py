"""Select the images, audio, videos, histograms, texts and tables of a run, in bounded memory.

The steps of each tag are sampled evenly, including the first and the last. Tags and bytes are limited; omitted
records are counted.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from tracelet.backends.presentation import histogram_bars
from tracelet.journal.spool import stored_path
from tracelet.records import Audio, File, Histogram, Image, PRCurve, Record, Table, Text, Video, kind, shown_step

Item = TypeVar("Item")
Sample = TypeVar("Sample")
Key = TypeVar("Key")

# Formats that every browser shows and that cannot contain scripts, unlike SVG.
_MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
# Formats that browsers play.
_CLIP_TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "mp4": "video/mp4",
    "webm": "video/webm",
}
_MAX_TABLE_BYTES = 1 << 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the selection."""

    tags: int = 60
    """Tags of each kind."""
    images: int = 12
    """Steps of one tag."""
    image_bytes: int = 4 << 20
    """Bytes of one image."""
    all_image_bytes: int = 12 << 20
    clip_bytes: int = 3 << 20
    """Bytes of one audio or video clip."""
    all_clip_bytes: int = 6 << 20
    pr_curves: int = 16
    histograms: int = 16
    bars: int = 100
    """Bars of one histogram; at most twice as many."""
    texts: int = 100
    """Steps of one tag."""
    all_characters: int = 2_000_000
    characters: int = 10_000
    """Characters of one text."""
    rows: int = 50
    columns: int = 30
    cell: int = 2_000
    """Characters of one table cell."""


class Downsample(Generic[Item, Sample]):
    """Keep at most `limit` evenly spread items, including the first and the last. Convert only these with `convert`."""

    def __init__(self, limit: int, convert: Callable[[Item], Sample]) -> None:
        self.count = 0
        self._limit, self._convert = max(limit, 2), convert
        self._interval = 1
        self._samples: list[Sample] = []
        self._latest: Item | None = None

    def add(self, item: Item) -> None:
        self._latest = None
        if self.count % self._interval:
            self._latest = item
        else:
            if len(self._samples) == self._limit - 1:  # one place is reserved for the latest item
                self._samples = self._samples[::2]
                self._interval *= 2
            if self.count % self._interval:
                self._latest = item
            else:
                self._samples.append(self._convert(item))
        self.count += 1

    def samples(self) -> list[Sample]:
        return self._samples if self._latest is None else [*self._samples, self._convert(self._latest)]


class MediaFrame(NamedTuple):
    """An image, or an audio or video clip, of one step."""

    step: int
    width: int
    height: int
    media_type: str | None
    """None if browsers do not show the format."""
    file: File | None
    caption: str = ""

    def data(self, folder: Path, limit: int) -> bytes | None:
        """Read the file from the run in `folder`. Return None if it is missing or has more than `limit` bytes."""
        file = self.file
        return None if file is None or self.media_type is None else read_stored(folder, file.name, limit)


class HistogramBars(NamedTuple):
    """A histogram with a limited number of bars."""

    step: int
    counts: list[float]
    edges: list[float]
    minimum: float
    maximum: float
    number: float
    total: float
    sum_squares: float


class TextExcerpt(NamedTuple):
    """The start of a text. `length` is the length of the whole text."""

    step: int
    text: str
    length: int


class TablePreview(NamedTuple):
    """The first rows and columns of a table. `height` and `width` are those of the whole table."""

    step: int
    columns: list[Any]
    rows: list[list[Any]]
    height: int
    width: int
    cut: int = 0
    """Number of shortened cells."""


class Gallery:
    """The media of a run. Pass every record to `add`, then read the selection."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits = limits or Limits()
        self.images: dict[str, Downsample[Image | Video, MediaFrame]] = {}
        self.audio: dict[str, Downsample[Audio, MediaFrame]] = {}
        self.videos: dict[str, Downsample[Video, MediaFrame]] = {}
        """Videos that are not GIF images."""
        self.histograms: dict[str, Downsample[Histogram, HistogramBars]] = {}
        self.texts: dict[str, Downsample[Text, TextExcerpt]] = {}
        self.pr_curves: dict[str, Downsample[PRCurve, PRCurve]] = {}
        self.tables: dict[str, Table] = {}
        self.omitted: Counter[str] = Counter()
        """Counts of records beyond the limit of tags, by kind."""
        self._to_excerpt = lambda record: TextExcerpt(
            shown_step(record.step), record.text[: limits.characters], len(record.text)
        )
        self._to_bars = lambda record: _to_bars(record, limits.bars)

    def add(self, record: Record) -> None:
        match record:
            case Video(format=form) if form.lower() != "gif":
                self._add_sample(self.videos, record, self.limits.images, _to_clip)
            case Image() | Video():
                self._add_sample(self.images, record, self.limits.images, _to_frame)
            case Audio():
                self._add_sample(self.audio, record, self.limits.images, _to_clip)
            case Histogram():
                self._add_sample(self.histograms, record, self.limits.histograms, self._to_bars)
            case Text():
                self._add_sample(self.texts, record, self.limits.texts, self._to_excerpt)
            case PRCurve():
                self._add_sample(self.pr_curves, record, self.limits.pr_curves, lambda curve: curve)
            case Table():
                if record.tag in self.tables or len(self.tables) < self.limits.tags:
                    self.tables[record.tag] = record
                else:
                    self.omitted[kind(record)] += 1
            case _:
                pass

    def selected_images(self) -> dict[str, list[MediaFrame]]:
        """Return the images of each tag in order. Last images come first if the bytes do not suffice for all."""
        samples = {tag: images.samples() for tag, images in self.images.items()}
        return _last_first(samples, _size, self.limits.image_bytes, self.limits.all_image_bytes)

    def selected_clips(self) -> tuple[dict[str, list[MediaFrame]], dict[str, list[MediaFrame]]]:
        """Return the audio and the videos of each tag, like `selected_images`. They share one limit of bytes."""
        groups: tuple[Mapping[str, Downsample[Any, MediaFrame]], ...] = (self.audio, self.videos)
        samples = {(index, tag): clips.samples() for index, group in enumerate(groups) for tag, clips in group.items()}
        selected = _last_first(samples, _size, self.limits.clip_bytes, self.limits.all_clip_bytes)
        audio, videos = (
            {tag: clips for (index, tag), clips in selected.items() if index == wanted} for wanted in range(2)
        )
        return audio, videos

    def selected_texts(self) -> dict[str, list[TextExcerpt]]:
        """Return the texts of each tag in order, like `selected_images`."""
        samples = {tag: texts.samples() for tag, texts in self.texts.items()}
        return _last_first(
            samples, lambda excerpt: len(excerpt.text), self.limits.characters, self.limits.all_characters
        )

    def preview(self, table: Table, folder: Path) -> TablePreview | None:
        """Return the start of a table. Return None if its file is missing, larger than 1 MiB, or not a table."""
        text = read_stored(folder, table.data.name, _MAX_TABLE_BYTES) if isinstance(table.data, File) else None
        try:
            data = json.loads(text or b"")
        except (ValueError, RecursionError):
            return None
        return _preview(shown_step(table.step), data, self.limits)

    def _add_sample(self, samples: dict[str, Any], record: Any, limit: int, convert: Callable[[Any], Any]) -> None:
        if record.tag not in samples:
            if len(samples) == self.limits.tags:
                self.omitted[kind(record)] += 1
                return
            samples[record.tag] = Downsample(limit, convert)
        samples[record.tag].add(record)


def _last_first(
    samples: Mapping[Key, Sequence[Sample]], size: Callable[[Sample], int], limit: int, total: int
) -> dict[Key, list[Sample]]:
    """Return the samples that fit into `total`, each at most `limit`: the last of each key, then those before."""
    selected: dict[Key, list[Sample]] = {key: [] for key in samples}
    for offset in range(1, 1 + max(map(len, samples.values()), default=0)):
        for key, items in samples.items():
            if offset > len(items):
                continue
            needed = size(items[-offset])
            if needed <= min(total, limit):
                total -= needed
                selected[key].insert(0, items[-offset])
    return selected


def read_stored(folder: Path, name: str, limit: int) -> bytes | None:
    """Return the bytes of a stored file of the run in `folder`; None if it is missing or has more than `limit`."""
    path = stored_path(folder / "files", name)
    try:
        is_readable = path is not None and path.is_file() and path.stat().st_size <= limit
        return path.read_bytes() if path is not None and is_readable else None
    except OSError:
        return None


def _to_frame(record: Image | Video) -> MediaFrame:
    file = record.data if isinstance(record.data, File) else None
    media_type = _MEDIA_TYPES.get(record.format.lower())
    return MediaFrame(shown_step(record.step), record.width, record.height, media_type, file, record.caption)


def _to_clip(record: Audio | Video) -> MediaFrame:
    """Return a clip of audio or video, whose type must match the record's kind."""
    media_type = _CLIP_TYPES.get(record.format.lower(), "")
    is_playable = media_type.startswith(f"{kind(record)}/")
    file = record.data if isinstance(record.data, File) else None
    width, height = (0, 0) if isinstance(record, Audio) else (record.width, record.height)
    return MediaFrame(shown_step(record.step), width, height, media_type if is_playable else None, file, record.caption)


def _size(image: MediaFrame) -> int:
    return 0 if image.file is None or image.media_type is None else image.file.size


def _to_bars(h: Histogram, limit: int) -> HistogramBars:
    """Merge very narrow buckets. TensorBoard has hundreds of them around zero."""
    counts, edges = histogram_bars(h)
    min_width = (edges[-1] - edges[0]) / limit
    if not 0 < min_width < math.inf:
        counts, edges = histogram_bars(h, limit)
    else:
        merged, ends, pending = [], [edges[0]], 0.0
        for count, end in zip(counts, edges[1:], strict=True):
            pending += count
            if end - ends[-1] >= min_width or end == edges[-1]:
                merged.append(pending)
                ends.append(end)
                pending = 0.0
        counts, edges = merged, ends
    return HistogramBars(shown_step(h.step), counts, edges, h.minimum, h.maximum, h.count, h.total, h.sum_squares)


def _preview(step: int, data: Any, limits: Limits) -> TablePreview | None:
    if not isinstance(data, Mapping):
        return None
    columns, rows = data.get("columns"), data.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, list):
        return None
    selected = [row[: limits.columns] for row in [columns, *rows[: limits.rows]] if isinstance(row, list)]
    shown = [[_cell(value, limits.cell) for value in row] for row in selected]
    cut = sum(len(str(value)) > limits.cell for row in selected for value in row)
    return TablePreview(step, shown[0], shown[1:], len(rows), len(columns), cut)


def _cell(value: Any, limit: int) -> Any:
    text = str(value)
    return value if len(text) <= limit else f"{text[:limit]}…"
