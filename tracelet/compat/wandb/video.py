"""Define videos."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from tracelet.capture.media import tiled
from tracelet.compat.wandb.base import Entry, Media, derives_from, is_path, to_array, warn_once
from tracelet.compat.wandb.errors import Error
from tracelet.records import Video as VideoRecord

_DEFAULT_FPS = 4


class Video(Media):
    """A video: a path, an open file, or frames [T, C, H, W] or [N, T, C, H, W] with values from 0 to 255.

    Frames are encoded as GIF with Pillow, and as another format with moviepy. `fps` has no effect on encoded data.

    Raises:
        ValueError: the format is missing or unknown, or the frames have fewer than four axes.
    """

    EXTS: ClassVar[tuple[str, ...]] = ("gif", "mp4", "webm", "ogg")

    _log_type = "video-file"
    _folder = "videos"

    def __init__(
        self, data_or_path: Any, caption: str | None = None, fps: float | None = None, format: str | None = None
    ) -> None:
        super().__init__(caption)
        self._width: int | None = None
        self._height: int | None = None
        self._channels: int | None = None
        if is_path(data_or_path):
            path = os.fspath(data_or_path)
            self._format = _known_format(os.path.splitext(path)[1][1:].lower())
            self._read(path)
            _warn_of_fps(fps)
        else:
            self._format = _known_format(format)
            if hasattr(data_or_path, "read"):
                self._data = data_or_path.read()
                _warn_of_fps(fps)
            else:
                self._encode(data_or_path, fps or _DEFAULT_FPS)
        self._extension = f".{self._format}"

    def _encode(self, frames: Any, fps: float) -> None:
        if not any(derives_from(frames, package) for package in ("numpy", "torch")) and not hasattr(frames, "numpy"):
            raise ValueError(f"a video must be a path, an open file or an array, got a {type(frames).__name__}")
        array = _to_frames(to_array(frames))
        self._height, self._width, self._channels = array.shape[1:]
        self._data = _to_gif(array, fps) if self._format == "gif" else _with_moviepy(array, fps, self._format)

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        self._require_data()
        width, height = self._width or 0, self._height or 0
        yield VideoRecord(
            name, self._data, self._format, width, height, step, wall_time, caption=str(self._caption or "")
        )

    def _properties(self) -> dict[str, Any]:
        sizes = {"width": self._width, "height": self._height}
        return {**super()._properties(), **{key: size for key, size in sizes.items() if size is not None}}


def _known_format(format: str | None) -> str:
    if format not in Video.EXTS:
        raise ValueError(f"format must be one of {', '.join(Video.EXTS)}, got {format!r}")
    return format


def _warn_of_fps(fps: float | None) -> None:
    if fps:
        warn_once("wandb.Video: fps has no effect on a file that is encoded already")


def _to_frames(array: Any) -> Any:
    """Return frames [T, H, W, C] of uint8, with several videos tiled into one."""
    import numpy as np

    if array.ndim not in (4, 5):
        raise ValueError(f"a video must have the shape [T, C, H, W] or [N, T, C, H, W], got {list(array.shape)}")
    array = array.astype(np.uint8)
    array = array if array.ndim == 4 else tiled(array)
    return array.transpose(0, 2, 3, 1)


def _to_gif(frames: Any, fps: float) -> bytes:
    """Encode each frame with a palette of its own, by median cut, as imageio does."""
    from PIL import Image

    images = []
    for frame in frames:
        image = Image.fromarray(frame.squeeze()).convert("RGB")
        images.append(image.quantize(256, method=Image.Quantize.MEDIANCUT))
    out = io.BytesIO()
    images[0].save(
        out, format="GIF", save_all=True, append_images=images[1:], duration=1000 / fps, loop=0, optimize=False
    )
    return out.getvalue()


def _with_moviepy(frames: Any, fps: float, format: str) -> bytes:
    try:
        from moviepy.video.io.ImageSequenceClip import ImageSequenceClip
    except ImportError as error:
        raise Error(f"wandb.Video needs moviepy to encode {format}. Run: pip install moviepy imageio") from error
    with tempfile.TemporaryDirectory(prefix="tracelet-") as folder:
        path = Path(folder, f"video.{format}")
        ImageSequenceClip(list(frames), fps=fps).write_videofile(str(path), logger=None)
        return path.read_bytes()
