"""Live values to plain data, on the caller's thread; nothing here keeps a reference to what it was given."""

from __future__ import annotations

import enum
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tracelet.errors import TraceletError
from tracelet.records import Histogram

_INT64 = 2**63
_CHANNELS = range(1, 5)
_REFUSALS = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What a value's own methods raise where it cannot be told as something else."""


def plain(value: Any) -> Any:
    """A value as str, int, float, bool, None, or a list of those; what it cannot be told as is its `str`.

    Numbers keep their value: an int beyond 64 bits becomes its decimal text, a 0-d array or tensor its one number. What
    is within itself is "..." there.

    Raises:
        TraceletError: nested deeper than Python goes.
    """
    try:
        return _plain(value, ())
    except RecursionError as error:
        raise TraceletError(f"a {type(value).__name__} that is nested this deeply cannot be told") from error


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    """`above`: by their `id`, the values that this one is within."""
    match value:
        case None | bool() | float():
            return value
        case enum.Enum():
            return _plain(value.value, above)
        case int():
            return int(value) if -_INT64 <= value < _INT64 else _digits(int(value))
        case str():
            return _text(value)
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case os.PathLike():
            return _plain(os.fspath(value), above)
        case type():  # its methods are for its instances
            return _said(value)
    if id(value) in above:
        return "..."
    within = (*above, id(value))
    match value:
        case Mapping():
            return {_said(key): _plain(one, within) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one, within) for one in value]
        case set() | frozenset():
            return sorted((_plain(one, within) for one in value), key=repr)
    # Told by their marks: importing dataclasses and argparse would cost every start, whether they are used or not.
    if hasattr(value, "__dataclass_fields__"):
        fields = value.__dataclass_fields__
        return {name: _plain(getattr(value, name), within) for name in fields if hasattr(value, name)}
    if "argparse" in sys.modules and isinstance(value, sys.modules["argparse"].Namespace):
        return _plain(vars(value), within)
    # numpy, torch, jax: anything that can say itself as a list or a number
    for method in ("tolist", "item"):
        try:
            convert = getattr(value, method, None)
            told = convert() if callable(convert) else value
        except _REFUSALS:  # torch's, for a tensor that is sparse, or has no values
            continue
        if told is not value:
            return _plain(told, within)
    return _said(value)


def params(values: Any) -> dict[str, Any]:
    """Nested parameters as dotted names; lists stay lists. A key that is there twice keeps its last value."""
    told = plain(values)
    if not isinstance(told, dict):
        raise TraceletError(
            f"log_params takes a dict, dataclass or Namespace of parameters, not {type(values).__name__}"
        )
    flat: dict[str, Any] = {}
    _flatten("", told, flat)
    return flat


def number(value: Any) -> float:
    """The float64 of a number, or of an array or tensor of one element."""
    if type(value) is float:
        return value
    if isinstance(value, str | bytes):
        raise TypeError("it is text")
    item = getattr(value, "item", None)
    return float(item() if callable(item) else value)


def integer_step(step: Any) -> int | None:
    """A step as it was meant: a whole number within 64 bits, whatever holds it.

    Raises:
        TraceletError: not a whole number, or beyond 64 bits.
    """
    if type(step) is int and -_INT64 <= step < _INT64:
        return step
    item = getattr(step, "item", None)
    try:
        number = item() if callable(item) else step
    except (TypeError, ValueError, RuntimeError) as error:
        raise TraceletError(f"step {step!r} is not a whole number: {error}") from error
    whole = cut_step(number)
    if isinstance(number, float) and number != whole:
        raise TraceletError(f"step {number!r} is not a whole number: int(step) cuts it, round(step) rounds it")
    return whole


def cut_step(step: Any) -> int | None:
    """A step as TensorBoard takes it: `int(step)` within 64 bits.

    Raises:
        TraceletError: not a number, or beyond 64 bits.
    """
    if step is None:
        return None
    try:
        whole = int(step)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # torch's own is a RuntimeError
        raise TraceletError(f"step {step!r} is not a whole number: {error}") from error
    if not -_INT64 <= whole < _INT64:
        raise TraceletError(f"step {whole} does not fit into 64 bits")
    return whole


def histogram(values: Any, bins: int, np_histogram: tuple[Any, Any] | None) -> Histogram:
    """Values, or numpy's (counts, edges), as buckets with TensorBoard's right limits; the first bucket is empty
    and gives the left edge. Values that are not finite are in no bucket and in no sum, as in TensorBoard.

    Raises:
        TraceletError: what is given cannot be put into buckets.
    """
    try:
        return _histogram(values, bins, np_histogram)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # numpy's, and torch's
        raise TraceletError(
            f"log_histogram takes numbers in any shape, or np_histogram=(counts, edges): {error}"
        ) from error


def _histogram(values: Any, bins: int, np_histogram: tuple[Any, Any] | None) -> Histogram:
    import numpy as np

    if np_histogram is not None:
        counts, edges = (_reals(part) for part in np_histogram)
        if len(edges) != len(counts) + 1:
            raise TraceletError("np_histogram is (counts, edges) with one edge more than counts, as numpy gives it")
        middle = (edges[1:] + edges[:-1]) / 2
        low, high = float(edges[0]), float(edges[-1])
        total, squares = float(counts @ middle), float(counts @ middle**2)
    else:
        array = _reals(values).reshape(-1)
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
    """A picture as PNG bytes with its width and height: array, tensor, PIL image or matplotlib figure.

    Arrays: uint8 as it is, floats in [0, 1]; `dataformats` names the axes (CHW, HWC, HW), as in TensorBoard.
    """
    from PIL import Image

    if hasattr(image, "savefig"):
        out = io.BytesIO()
        image.savefig(out, format="png")
        drawn = Image.open(out)
        return out.getvalue(), drawn.width, drawn.height
    picture = image if isinstance(image, Image.Image) else Image.fromarray(_pixels(image, dataformats))
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return out.getvalue(), picture.width, picture.height


def gif(video: Any, fps: float, dataformats: str = "NTCHW") -> tuple[bytes, int, int]:
    """Frames as an animated GIF with its width and height: [T, C, H, W], or several videos [N, T, C, H, W] side by side
    as TensorBoard lays them out. Arrays as `png` takes them; `dataformats` names the axes of five."""
    import numpy as np
    from PIL import Image

    array = np.asarray(_host(video))
    if array.ndim == 5:
        array = _tiled(array.transpose([dataformats.upper().index(axis) for axis in "NTCHW"]))
    if array.ndim != 4 or array.shape[1] not in _CHANNELS:
        raise TraceletError(f"a video has the axes [T, C, H, W], C from 1 to 4; this one has the shape {array.shape}")
    frames = [Image.fromarray(_pixels(frame, "CHW")).convert("RGB") for frame in array]
    out = io.BytesIO()
    frames[0].save(
        out, format="GIF", save_all=True, append_images=frames[1:], duration=max(round(1000 / fps), 20), loop=0
    )
    return out.getvalue(), frames[0].width, frames[0].height


def wav(samples: Any, sample_rate: int) -> bytes:
    """Samples as a 16-bit WAV file: [L] or [L, channels], floats in [-1, 1] or int16."""
    import wave

    import numpy as np

    array = np.asarray(_host(samples))
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise TraceletError(f"audio has the axes [L] or [L, channels]; this one has the shape {array.shape}")
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
    """A table as JSON: a pandas DataFrame, or rows with their columns' names."""
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        columns = [str(name) for name in data.columns]
        rows = [plain(list(row)) for row in data.itertuples(index=False, name=None)]
    else:
        rows = [plain(list(row)) for row in data]
    if columns is None:
        raise TraceletError("log_table needs columns=[...] unless data is a DataFrame")
    wrong = next((row for row in rows if len(row) != len(columns)), None)
    if wrong is not None:
        raise TraceletError(f"log_table: a row has {len(wrong)} cells, but there are {len(columns)} columns")
    return json.dumps({"columns": list(columns), "rows": rows}, ensure_ascii=False).encode()


def _flatten(prefix: str, values: Mapping[str, Any], flat: dict[str, Any]) -> None:
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping) and value:
            _flatten(name, value, flat)
        else:
            flat[name] = value


def _said(value: Any) -> str:
    """A value's `str`; what cannot say even that is called by the name of its class."""
    try:
        return _text(str(value))
    except _REFUSALS:
        return type(value).__name__


def _digits(whole: int) -> str:
    try:
        return str(whole)
    except ValueError:  # Python spells thousands of digits only in a base that is a power of two
        return hex(whole)


def _text(text: str) -> str:
    """Text without lone surrogates, which UTF-8 has no bytes for."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _host(values: Any) -> Any:
    """A tensor's values in host memory, without its graph; bfloat16, which numpy does not know, as float32."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
        return values.numpy()
    return values


def _reals(values: Any) -> Any:
    import numpy as np

    array = np.asarray(_host(values))
    if array.dtype.kind == "c":
        raise TypeError("complex numbers have no order; log their real parts, or their sizes")
    return array.astype(float, copy=False)


def _tiled(videos: Any) -> Any:
    """[N, T, C, H, W] as [T, C, rows * H, columns * W], both powers of two (torch/utils/tensorboard/_utils.py)."""
    import numpy as np

    number, frames, channels, height, width = videos.shape
    whole = 1 << max(number - 1, 0).bit_length()
    rows = 1 << (number.bit_length() - 1) // 2
    padded = np.concatenate([videos, np.zeros((whole - number, *videos.shape[1:]), videos.dtype)])
    grid = padded.reshape(rows, whole // rows, frames, channels, height, width)
    return grid.transpose(2, 3, 0, 4, 1, 5).reshape(frames, channels, rows * height, whole // rows * width)


def _pixels(image: Any, dataformats: str) -> Any:
    import numpy as np

    array = np.asarray(_host(image))
    axes, shape = dataformats.upper(), array.shape
    if sorted(axes) not in (sorted("CHW"), sorted("HW")) or array.ndim != len(axes):
        raise TraceletError(f"an image of shape {shape} does not have the axes {dataformats!r} (CHW, HWC or HW)")
    if len(axes) == 3:
        array = array.transpose([axes.index(axis) for axis in "HWC"])
        if array.shape[2] not in _CHANNELS:
            hint = '. Where the channels come last it is dataformats="HWC"' if shape[-1] in _CHANNELS else ""
            raise TraceletError(f"an image of shape {shape} has {array.shape[2]} channels as {axes}, not 1 to 4{hint}")
        if array.shape[2] == 1:
            array = array[:, :, 0]
    if array.dtype != np.uint8:
        array = (np.nan_to_num(array.astype(float)) * 255.0).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(array)
