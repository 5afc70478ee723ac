"""Encode images, videos, audio, tables and histograms, on the caller's thread.

numpy and PIL are imported on first use.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Sequence
from typing import Any

from tracelet.capture.values import to_plain
from tracelet.errors import TraceletError
from tracelet.records import Histogram

_CHANNELS = range(1, 5)


def histogram(values: Any, bins: int, np_histogram: tuple[Any, Any] | None) -> Histogram:
    """Return values, or numpy's (counts, edges), as buckets with right edges, as in TensorBoard.

    The first bucket is empty: its edge is the left edge of the next one. Non-finite values are ignored.

    Raises:
        TraceletError: the values are not real numbers, or none is finite.
    """
    try:
        return _histogram(values, bins, np_histogram)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # of numpy and torch
        raise TraceletError(
            f"log_histogram: values must be numbers in any shape, or np_histogram=(counts, edges): {error}"
        ) from error


def _histogram(values: Any, bins: int, np_histogram: tuple[Any, Any] | None) -> Histogram:
    import numpy as np

    if np_histogram is not None:
        counts, edges = (_to_reals(part) for part in np_histogram)
        if len(edges) != len(counts) + 1:
            raise TraceletError(
                f"np_histogram must be (counts, edges) with one more edge than counts, got {len(counts)} counts and "
                f"{len(edges)} edges"
            )
        middle = (edges[1:] + edges[:-1]) / 2
        low, high = float(edges[0]), float(edges[-1])
        total, squares = float(counts @ middle), float(counts @ middle**2)
    else:
        array = _to_reals(values).reshape(-1)
        array = array[np.isfinite(array)]
        if array.size == 0:
            raise TraceletError("log_histogram needs at least one finite value")
        counts, edges = np.histogram(array, bins=bins)
        counts = counts.astype(float)
        low, high = float(array.min()), float(array.max())
        total, squares = float(array.sum()), float(array @ array)
    return Histogram(
        "",
        tuple(edges.tolist()),
        (0.0, *counts.tolist()),
        low,
        high,
        float(counts.sum()),
        total,
        squares,
        None,
        0.0,
    )


def png(image: Any, dataformats: str) -> tuple[bytes, int, int]:
    """Encode an array, tensor, PIL image or matplotlib figure as PNG; return the bytes, width and height.

    Arrays are uint8, or floats in [0, 1]. `dataformats` is CHW, HWC or HW, as in TensorBoard.
    """
    from PIL import Image

    if hasattr(image, "savefig"):
        out = io.BytesIO()
        image.savefig(out, format="png")
        rendered = Image.open(out)
        return out.getvalue(), rendered.width, rendered.height
    converted = image if isinstance(image, Image.Image) else Image.fromarray(_pixels(image, dataformats))
    out = io.BytesIO()
    converted.save(out, format="PNG")
    return out.getvalue(), converted.width, converted.height


def gif(video: Any, fps: float, dataformats: str = "NTCHW") -> tuple[bytes, int, int]:
    """Encode frames as an animated GIF; return the bytes, width and height.

    Frames are [T, C, H, W], or several videos with five axes in the order `dataformats`, tiled as in TensorBoard.
    Their values are as in `png`.
    """
    import numpy as np
    from PIL import Image

    if not 0 < fps < math.inf:
        raise TraceletError(f"fps must be a positive number, got {fps}")
    array = np.asarray(to_host(video))
    if array.ndim == 5:
        array = tiled(array.transpose([dataformats.upper().index(axis) for axis in "NTCHW"]))
    if array.ndim != 4 or array.shape[1] not in _CHANNELS:
        raise TraceletError(f"a video must have the shape [T, C, H, W] with C from 1 to 4, got {array.shape}")
    if array.size == 0:
        raise TraceletError(f"a video must have at least one frame of one pixel, got {array.shape}")
    frames = [Image.fromarray(_pixels(frame, "CHW")).convert("RGB") for frame in array]
    out = io.BytesIO()
    frames[0].save(
        out, format="GIF", save_all=True, append_images=frames[1:], duration=max(round(1000 / fps), 20), loop=0
    )
    return out.getvalue(), frames[0].width, frames[0].height


def wav(samples: Any, sample_rate: int) -> bytes:
    """Encode samples [L] or [L, channels], floats in [-1, 1] or int16, as a 16-bit WAV file."""
    import wave

    import numpy as np

    if not 1 <= sample_rate < 1 << 32:
        raise TraceletError(f"sample_rate must be a number of samples per second, got {sample_rate}")
    array = np.asarray(to_host(samples))
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise TraceletError(f"audio must have the shape [L] or [L, channels], got {array.shape}")
    if array.dtype != np.int16:
        array = (np.clip(array, -1.0, 1.0) * 32767).round().astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(array.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.ascontiguousarray(array).tobytes())
    return out.getvalue()


def table(columns: Sequence[str] | None, data: Any) -> bytes:
    """Encode a pandas DataFrame with its index, or rows with the names of their columns, as JSON."""
    if isinstance(data, str | bytes | os.PathLike):
        raise TraceletError(f"log_table: data must be a DataFrame or rows, got {data!r}. Load the file first")
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        data = with_index(data)
        columns = [str(name) for name in data.columns]
        rows = [to_plain(list(row)) for row in data.itertuples(index=False, name=None)]
    else:
        rows = [to_plain(list(row)) for row in data]
    if columns is None:
        raise TraceletError("log_table needs columns=[...] unless data is a DataFrame")
    invalid = next((row for row in rows if len(row) != len(columns)), None)
    if invalid is not None:
        raise TraceletError(f"log_table: a row has {len(invalid)} cells, but there are {len(columns)} columns")
    return json.dumps({"columns": list(columns), "rows": rows}, ensure_ascii=False).encode()


def with_index(frame: Any) -> Any:
    """Return a DataFrame with its index as first columns, except one without a name that only numbers the rows."""
    index = getattr(frame, "index", None)
    if index is None or (list(index.names) == [None] and index.dtype.kind in "iu"):
        return frame
    return frame.reset_index(allow_duplicates=True)


def to_host(values: Any) -> Any:
    """Copy a tensor to host memory, without its graph. bfloat16 becomes float32, since numpy has no bfloat16.

    Raises:
        TraceletError: the values are a path, text or bytes.
    """
    if isinstance(values, str | bytes | os.PathLike):
        name = f"a {type(values).__name__}" if isinstance(values, bytes) else repr(os.fspath(values))
        raise TraceletError(
            f"the values must be an array or a tensor, got {name}. Load the file first, for example with "
            "PIL.Image.open, or log it as it is with log_artifact"
        )
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
        return values.numpy()
    return values


def _to_reals(values: Any) -> Any:
    import numpy as np

    array = np.asarray(to_host(values))
    if array.dtype.kind == "c":
        raise TypeError("complex numbers have no order; log their real parts or absolute values")
    return array.astype(float, copy=False)


def tiled(videos: Any) -> Any:
    """Tile [N, T, C, H, W] to [T, C, rows * H, columns * W], both powers of two (torch/utils/tensorboard/_utils.py)."""
    import numpy as np

    number, frames, channels, height, width = videos.shape
    whole = 1 << max(number - 1, 0).bit_length()
    rows = 1 << (number.bit_length() - 1) // 2
    padded = np.concatenate([videos, np.zeros((whole - number, *videos.shape[1:]), videos.dtype)])
    grid = padded.reshape(rows, whole // rows, frames, channels, height, width)
    return grid.transpose(2, 3, 0, 4, 1, 5).reshape(frames, channels, rows * height, whole // rows * width)


def _pixels(image: Any, dataformats: str) -> Any:
    import numpy as np

    array = np.asarray(to_host(image))
    axes, shape = dataformats.upper(), array.shape
    if sorted(axes) not in (sorted("CHW"), sorted("HW")) or array.ndim != len(axes):
        raise TraceletError(
            f"dataformats must be CHW, HWC or HW and match the image of shape {shape}, got {dataformats!r}"
        )
    if len(axes) == 3:
        array = array.transpose([axes.index(axis) for axis in "HWC"])
        if array.shape[2] not in _CHANNELS:
            hint = '. If the channels are last, pass dataformats="HWC"' if shape[-1] in _CHANNELS else ""
            raise TraceletError(
                f"an image must have 1 to 4 channels, got {array.shape[2]} (shape {shape}, dataformats {axes}){hint}"
            )
        if array.shape[2] == 1:
            array = array[:, :, 0]
    if array.size == 0:
        raise TraceletError(f"an image must have at least one pixel, got shape {shape}")
    if array.dtype != np.uint8:
        array = (np.nan_to_num(array.astype(float)) * 255.0).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(array)
