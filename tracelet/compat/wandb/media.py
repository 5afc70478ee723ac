"""Define images, audio and HTML."""

from __future__ import annotations

import io
import json
import os
import sys
import wave
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from tracelet.capture import media
from tracelet.capture.values import to_plain
from tracelet.compat.wandb.base import Entry, Media, derives_from, is_path, to_array
from tracelet.compat.wandb.boxes import BoundingBoxes2D, Classes, ImageMask
from tracelet.records import Audio as AudioRecord
from tracelet.records import Image as ImageRecord
from tracelet.records import Text

_ENCODERS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "bmp": "BMP"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class Image(Media):
    """An image: an array, tensor, PIL image, matplotlib figure, path, or another `Image`.

    Arrays are [H, W] or [H, W, C], tensors [C, H, W], with values from 0 to 255; floats are cut to whole numbers.
    `normalize=True` first scales floats from [0, 1], or from [-1, 1] if one is negative, as older versions of wandb do.

    Raises:
        ValueError: the file type is unknown, or the array has not 1, 3 or 4 channels.
    """

    MAX_ITEMS: ClassVar[int] = 108
    MAX_DIMENSION: ClassVar[int] = 65500

    _log_type = "image-file"
    _folder = "images"

    def __init__(
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        grouping: int | None = None,
        classes: Classes | Sequence[dict[str, Any]] | None = None,
        boxes: Mapping[str, Any] | None = None,
        masks: Mapping[str, Any] | None = None,
        file_type: str | None = None,
        normalize: bool = False,
    ) -> None:
        super().__init__(caption)
        self.format: str | None = None
        self._grouping = grouping
        self._width: int | None = None
        self._height: int | None = None
        self._kind = ""  # Pillow's name of the encoding, which may differ from the ending of a file
        if isinstance(data_or_path, Image):
            self._copy(data_or_path)
        elif is_path(data_or_path):
            self._open(os.fspath(data_or_path))
        else:
            self._encode(data_or_path, mode, file_type, normalize)
        self._boxes = _layers("boxes", boxes, BoundingBoxes2D)
        self._masks = _layers("masks", masks, ImageMask)
        self._classes = self._all_classes(classes) or getattr(data_or_path, "_classes", None)

    def _copy(self, other: Image) -> None:
        self._data, self._extension, self._reference, self._path = (
            other._data,
            other._extension,
            other._reference,
            other._path,
        )
        self.format, self._kind, self._width, self._height = other.format, other._kind, other._width, other._height
        self._caption = other._caption if self._caption is None else self._caption
        self._grouping = other._grouping if self._grouping is None else self._grouping

    def _open(self, path: str) -> None:
        self._read(path)
        self._extension = os.path.splitext(path)[1]
        self.format = self._extension[1:]
        if self._reference is None:
            self._measure()

    def _encode(self, data: Any, mode: str | None, file_type: str | None, normalize: bool) -> None:
        self.format = file_type or "png"
        if self.format not in _ENCODERS:
            raise ValueError(f"file_type must be one of {', '.join(_ENCODERS)}, got {file_type!r}")
        self._extension = f".{self.format}"
        out = io.BytesIO()
        _to_pil(data, mode, self.format, normalize).save(out, format=_ENCODERS[self.format], transparency=None)
        self._data = out.getvalue()
        self._measure()

    def _measure(self) -> None:
        image = self.image
        self._width, self._height = image.size
        self._kind = (image.format or "png").lower()

    def _all_classes(self, classes: Classes | Sequence[dict[str, Any]] | None) -> Classes | None:
        names: dict[Any, Any] = {}
        for layer in (*(self._boxes or {}).values(), *(self._masks or {}).values()):
            names.update(layer._class_labels)
        for item in classes._class_set if isinstance(classes, Classes) else classes or ():
            names[item["id"]] = item["name"]
        return Classes([{"id": number, "name": name} for number, name in names.items()]) if names else None

    @property
    def image(self) -> Any:
        """The image as Pillow decodes it from the stored file, or None for a reference."""
        if self._reference is not None:
            return None
        from PIL import Image as PILImage

        image = PILImage.open(io.BytesIO(self._data))
        image.load()
        return image

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        self._require_data()
        width, height = self._width or 0, self._height or 0
        yield ImageRecord(
            name, self._data, self._kind, width, height, step, wall_time, caption=str(self._caption or "")
        )
        for key, mask in (self._masks or {}).items():
            yield from mask.records(f"{name}/masks/{key}", step, wall_time)
        if self._boxes:
            boxes = {key: layer.layer() for key, layer in self._boxes.items()}
            yield Text(f"{name}/boxes", json.dumps(to_plain(boxes)), step, wall_time)
        labels = self._labels()
        if labels:
            yield Text(f"{name}/classes", json.dumps(to_plain(labels)), step, wall_time)

    def _labels(self) -> dict[str, Any]:
        labels: dict[str, Any] = {}
        if self._classes is not None:
            labels["classes"] = list(self._classes._class_set)
        if self._masks:
            labels["masks"] = {key: mask._class_labels for key, mask in self._masks.items()}
        if self._grouping is not None:
            labels["grouping"] = self._grouping
        return labels

    def _properties(self) -> dict[str, Any]:
        sizes = {"width": self._width, "height": self._height, "grouping": self._grouping}
        known = {key: value for key, value in sizes.items() if value is not None}
        return {**super()._properties(), "format": self.format, **known}

    def described(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        described, files = super().described()
        if self._classes is not None:
            path = f"media/classes/{self._sha256[:20]}_cls.classes.json"
            described["classes"] = {"type": "classes-file", "path": path}
            files.update(self._classes.files(path.removesuffix(".classes.json")))
        if self._boxes:
            described["boxes"] = {key: layer._val for key, layer in self._boxes.items()}
        if self._masks:
            described["masks"] = {}
            for key, mask in self._masks.items():
                described["masks"][key], mask_files = mask.described()
                files.update(mask_files)
        return described, files

    def guess_mode(self, data: Any, file_type: str | None = None) -> str:
        """Return Pillow's mode for an array [H, W] or [H, W, C], or a tensor [C, H, W]."""
        channels = data.shape[0 if derives_from(data, "torch") else -1]
        return _mode(data.ndim, channels, tuple(data.shape), file_type)

    def to_data_array(self) -> list[Any]:
        image = self.image
        pixels: list[Any] = [] if image is None else to_array(image).tolist()
        return pixels

    def _identity(self) -> tuple[Any, ...]:
        image = self.image
        pixels = self._reference if image is None else (image.mode, image.tobytes())
        return (self._grouping, self._caption, self._width, self._height, pixels, self._classes)

    __hash__ = Media.__hash__


def _layers(name: str, layers: Mapping[str, Any] | None, kind: type[Any]) -> dict[str, Any] | None:
    if not layers:
        return None
    if not isinstance(layers, dict):
        raise ValueError(f"{name} must be a dict of names to {kind.__name__}, got a {type(layers).__name__}")
    return {key: layer if isinstance(layer, kind) else kind(layer, key) for key, layer in layers.items()}


def _to_pil(data: Any, mode: str | None, format: str, normalize: bool) -> Any:
    from PIL import Image as PILImage

    if isinstance(data, PILImage.Image):
        return data
    if is_matplotlib(data):
        out = io.BytesIO()
        to_figure(data).savefig(out, format=format)
        return PILImage.open(out)
    array = to_array(data)
    shape = array.shape
    if array.ndim < 2:
        raise ValueError(f"an image must have the shape [H, W] or [H, W, C], got {list(shape)}")
    if derives_from(data, "torch"):
        mode = mode or _mode(array.ndim, shape[0], shape, format)
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    elif array.ndim > 2:
        array = _squeezed(array)
        mode = mode or _mode(array.ndim, array.shape[-1], shape, format)
    return PILImage.fromarray(_to_uint8(_squeezed(array), normalize)).convert(mode or "L")


def _squeezed(array: Any) -> Any:
    """Remove the axes of length 1 from more than two axes; an image of one pixel keeps its height and width."""
    if array.ndim <= 2:
        return array
    squeezed = array.squeeze()
    if squeezed.ndim >= 2:
        return squeezed
    return array.reshape((1, 1) if array.size == 1 else (1, 1, -1))


def _mode(axes: int, channels: int, shape: tuple[int, ...], file_type: str | None) -> str:
    mode = {2: "L", 3: _MODES.get(channels)}.get(axes)
    if mode is None:
        raise ValueError(f"an image must have 1, 3 or 4 channels, got the shape {list(shape)}")
    return "RGB" if mode == "RGBA" and file_type in ("jpg", "jpeg") else mode  # JPEG has no transparency


def _to_uint8(array: Any, normalize: bool) -> Any:
    import numpy as np

    if normalize and array.dtype.kind == "f" and array.size:
        low, high = array.min(), array.max()
        if low < 0:
            array = (array + 1) / 2 * 255
        elif high <= 1:
            array = array * 255
    return array.astype(np.uint8)


def is_matplotlib(value: Any) -> bool:
    """Return True for a figure or another artist of matplotlib, and for the module `matplotlib.pyplot`."""
    if isinstance(value, ModuleType):
        return value.__name__ == "matplotlib.pyplot"
    return derives_from(value, "matplotlib")


def to_figure(value: Any) -> Any:
    """Return the figure of a matplotlib artist, or the current figure of `pyplot`.

    Raises:
        ValueError: the object belongs to no figure.
    """
    if isinstance(value, ModuleType):
        return sys.modules["matplotlib.pyplot"].gcf()
    figure = value if hasattr(value, "savefig") else getattr(value, "figure", None)
    if not hasattr(figure, "savefig"):
        raise ValueError(f"a matplotlib object must be a figure, or belong to one, got a {type(value).__name__}")
    return figure


class Audio(Media):
    """A sound: a path, or samples [L] or [L, channels] as floats in [-1, 1], int16 or int32.

    Raises:
        ValueError: samples come without `sample_rate`, or have another type.
    """

    _log_type = "audio-file"
    _folder = "audio"

    def __init__(self, data_or_path: Any, sample_rate: int | None = None, caption: str | None = None) -> None:
        super().__init__(caption)
        self._sample_rate = sample_rate
        self._duration: float | None = None
        if is_path(data_or_path):
            path = os.fspath(data_or_path)
            self._read(path)
            self._extension = os.path.splitext(path)[1]
        elif sample_rate is None:
            raise ValueError("wandb.Audio needs sample_rate for samples")
        else:
            samples = to_array(data_or_path)
            self._data, self._extension = media.wav(_to_int16(samples), sample_rate), ".wav"
            self._duration = len(samples) / float(sample_rate)

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        self._require_data()
        kind = self._extension[1:].lower() or "wav"
        rate = float(self._sample_rate or _rate_of_wav(self._data))
        yield AudioRecord(name, self._data, kind, rate, step, wall_time, caption=str(self._caption or ""))


def _to_int16(samples: Any) -> Any:
    """Convert samples as libsndfile does: scaled to 32 bits, clipped, and cut to the upper 16 bits."""
    import numpy as np

    if samples.dtype == np.int16:
        return samples
    if samples.dtype == np.int32:
        return (samples >> 16).astype(np.int16)
    if samples.dtype.kind != "f":
        raise ValueError(f"samples must be floats in [-1, 1], int16 or int32, got {samples.dtype}")
    scaled = np.rint(np.nan_to_num(samples.astype(np.float64)) * 2.0**31)
    return (np.clip(scaled, -(2.0**31), 2.0**31 - 1).astype(np.int64) >> 16).astype(np.int16)


def _rate_of_wav(data: bytes) -> int:
    try:
        with wave.open(io.BytesIO(data)) as file:
            return int(file.getframerate())
    except (wave.Error, EOFError):
        return 0  # another format


class Html(Media):
    """A page: HTML text, a path that ends in `.html`, or an open file. `inject` adds wandb's style sheet."""

    _log_type = "html-file"
    _folder = "html"
    _extension = ".html"

    def __init__(self, data: Any, inject: bool = True, data_is_not_path: bool = False) -> None:
        super().__init__()
        if is_path(data) and not data_is_not_path and str(data).endswith(".html") and os.path.isfile(data):
            self._path = os.fspath(data)
            self.html = Path(data).read_text(encoding="utf-8")
        elif isinstance(data, str):
            self.html = data
        elif hasattr(data, "read"):
            if hasattr(data, "seek"):
                data.seek(0)
            self.html = data.read()
        else:
            raise ValueError(f"data must be a text, a path or an open file, got a {type(data).__name__}")
        if inject:
            self.inject_head()
        self._data = self.html.encode()

    def inject_head(self) -> None:
        """Add wandb's style sheet, and open links in a new tab."""
        head = (
            '<base target="_blank"><link rel="stylesheet" type="text/css" href="https://app.wandb.ai/normalize.css" />'
        )
        for before, start, end in (("<head>", "<head>", ""), ("<html>", "<html><head>", "</head>")):
            if before in self.html:
                self.html = self.html.replace(before, f"{start}{head}{end}", 1).strip()
                return
        self.html = f"{head}{self.html}".strip()

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        yield Text(name, self.html, step, wall_time)
