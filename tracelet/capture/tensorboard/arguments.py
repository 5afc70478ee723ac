"""Copy the arguments of a deferred call, and check that the library will accept them.

The library's errors must appear on the caller's line, so a call is deferred only if both libraries certainly accept it.
Every other call runs at once, as without tracelet: a list, an unknown type or shape, non-finite values, other bins.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import math
import time
from collections.abc import Callable
from typing import Any, TypeAlias

Arguments: TypeAlias = dict[str, Any]

_INT64 = 2**63
_LARGEST = {"float16": 65504.0, "float32": 3.4e38, "float64": 1.7e308}
_NUMBERS = {*_LARGEST, "bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"}


class Copied:
    """Hold the arguments of one call, with copied values; `is_certain` if the library will accept them."""

    __slots__ = ("args", "is_certain", "size")

    def __init__(self, args: tuple[Any, ...], size: int, is_certain: bool) -> None:
        self.args, self.size, self.is_certain = args, size, is_certain


class Copier:
    """Copy the arguments of one method of one library; `original` is the library's own function."""

    def __init__(self, original: Callable[..., Any], rule: Rule, *, is_torch: bool) -> None:
        self._signature = inspect.signature(original)
        self._values = list(self._signature.parameters)[2]  # after the writer and the tag, in either library
        self._rule, self._is_torch = rule, is_torch

    def copy(
        self, writer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], has_room: Callable[[int], bool]
    ) -> Copied | None:
        """Return the copied arguments, with a wall time; None if the library must check the call itself.

        Call `has_room`, which may block, before copying anything.
        """
        try:
            bound = self._signature.bind(writer, *args, **kwargs)
        except TypeError:
            return None
        bound.apply_defaults()
        arguments = bound.arguments
        if arguments["walltime"] is None:
            arguments["walltime"] = time.time()
        source = _Source.of(arguments[self._values], self._is_torch)
        if source is None or not _has_plain_metadata(arguments):
            return None
        if not self._rule.accepts(source, arguments, self._is_torch):
            return None
        if not has_room(source.size):
            return None
        values = source.copy()
        if values is None:
            return None
        arguments[self._values] = values
        return Copied(bound.args, values.nbytes, _is_within(values, self._rule.limit, self._is_torch))


class _Source:
    """An array or tensor that the library can always convert to a numpy array."""

    def __init__(self, values: Any, dtype: str, shape: tuple[int, ...], size: int, is_tensor: bool) -> None:
        self._values, self.dtype, self.shape, self.size, self._is_tensor = values, dtype, shape, size, is_tensor

    @classmethod
    def of(cls, values: Any, is_torch: bool) -> _Source | None:
        """Return None for any other type, subclasses included: they may override the conversion."""
        module, name = values.__class__.__module__, values.__class__.__qualname__
        if (module, name) == ("numpy", "ndarray"):
            dtype, is_plain = values.dtype.name, values.dtype.isnative
        elif (module, name) in (("torch", "Tensor"), ("torch.nn.parameter", "Parameter")):
            dtype = str(values.dtype).removeprefix("torch.")
            is_plain = str(values.layout) == "torch.strided" and values.device.type in ("cpu", "cuda", "mps", "xpu")
            if dtype == "bfloat16" and is_torch:  # torch's writer converts it to float16
                dtype = "float16"
        else:
            return None
        if not is_plain or dtype not in _NUMBERS or 0 in values.shape:
            return None
        shape = tuple(values.shape)
        return cls(values, dtype, shape, math.prod(shape) * int(values.dtype.itemsize), module != "numpy")

    def copy(self) -> Any:
        """Copy the values to a new numpy array; None if the tensor cannot be converted."""
        if not self._is_tensor:
            return self._values.copy(order="K")
        try:
            tensor = self._values.detach()
            if str(tensor.dtype) == "torch.bfloat16":
                return tensor.half().cpu().numpy()
            array = tensor.cpu().numpy()
        except (RuntimeError, TypeError, ValueError):  # vmap, or a negative bit: the library raises
            return None
        return array.copy(order="K") if tensor.device.type == "cpu" else array


class Rule:
    """Decide if one method accepts a call: by shape, type and options, then by the range of the values."""

    def __init__(self, accepts: Callable[[_Source, Arguments, bool], bool], limit: float) -> None:
        self.accepts, self.limit = accepts, limit


def _has_plain_metadata(arguments: Arguments) -> bool:
    tag, step, walltime = arguments["tag"], arguments["global_step"], arguments["walltime"]
    if tag.__class__ is not str or not _is_utf8(tag):
        return False
    if not (isinstance(walltime, float) or _is_whole(walltime)):
        return False
    return step is None or _is_whole(step)


def _is_utf8(tag: str) -> bool:
    try:
        tag.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_whole(number: Any) -> bool:
    if number.__class__ is int:
        return -_INT64 <= number < _INT64
    return (number.__class__.__module__, number.__class__.__name__) == ("numpy", "int64")


def _is_within(values: Any, limit: float, is_torch: bool) -> bool:
    """Check that all values are finite and within `limit`, so that no sum or product in the library overflows."""
    if values.dtype.name in ("bool", "uint8"):
        return True
    low, high = float(values.min()), float(values.max())
    if not (-limit <= low and high <= limit):
        return False
    # tensorboardX sums the values first, in their own type.
    return is_torch or max(-low, high) * values.size < _LARGEST.get(values.dtype.name, math.inf)


def _image(source: _Source, arguments: Arguments, is_torch: bool) -> bool:
    axes = arguments["dataformats"].upper() if arguments["dataformats"].__class__ is str else ""
    if len(axes) != len(source.shape):
        return False
    lengths = dict(zip(axes, source.shape, strict=True))
    if "".join(sorted(lengths)) not in ("CHNW", "CHW", "HW"):
        return False
    channels = lengths.get("C", 1)
    if channels not in (1, 3, 4) or (is_torch and "N" in lengths and channels == 4):
        return False
    return _can_import("PIL.Image") if is_torch else _can_import("PIL.Image", "packaging.version")


def _histogram(_: _Source, arguments: Arguments, is_torch: bool) -> bool:
    # A numpy rule, a number or edges may give more bins than the values allow: only numpy can check that.
    is_own = arguments["bins"].__class__ is str and arguments["bins"] == "tensorflow"
    if not is_own or arguments["max_bins"] is not None or arguments["self"].default_bins != _default_bins():
        return False
    arguments["bins"] = _default_bins()
    return True


def _audio(source: _Source, arguments: Arguments, is_torch: bool) -> bool:
    rate = arguments["sample_rate"]
    if source.dtype not in ("float32", "float64") or rate.__class__ is not int or not 1 <= rate <= 1_000_000:
        return False
    if is_torch:
        return len([length for length in source.shape if length > 1]) == 1
    return (len(source.shape) == 1 or (len(source.shape) == 2 and source.shape[1] <= 2)) and _can_import("soundfile")


def _video(source: _Source, arguments: Arguments, is_torch: bool) -> bool:
    axes, fps = arguments.get("dataformats", "NTCHW"), arguments["fps"]  # torch has one order only
    if axes.__class__ is not str or len(source.shape) != 5 or sorted(axes.upper()) != sorted("NTCHW"):
        return False
    if fps.__class__ not in (int, float) or not 1 <= fps <= 100 or source.shape[axes.upper().index("C")] != 3:
        return False
    if importlib.util.find_spec("moviepy") is None:  # then the library writes nothing and raises nothing
        return True
    return _can_import("moviepy.editor" if is_torch else "moviepy.video.io.ImageSequenceClip")


def _can_import(*modules: str) -> bool:
    """Import the modules now, on the caller's line; False if one is missing, so that the library raises there."""
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError:
        return False
    return True


@functools.cache
def _default_bins() -> list[float]:
    """Return the edges of `bins="tensorflow"`, computed as in both libraries."""
    edge, above = 1e-12, []
    while edge < 1e20:
        above.append(edge)
        edge *= 1.1
    return [-positive for positive in above[::-1]] + [0] + above


# Larger pixel values are not an image. Histogram values within the limit have a bin, and their squares can be summed.
_IMAGE, _HISTOGRAM, _AUDIO, _VIDEO = Rule(_image, 256), Rule(_histogram, 1e19), Rule(_audio, 1), Rule(_video, 256)

DEFERRABLE: dict[str, Rule] = {
    "add_histogram": _HISTOGRAM,
    "add_image": _IMAGE,
    "add_images": _IMAGE,
    "add_video": _VIDEO,
    "add_audio": _AUDIO,
}
"""The methods that can be deferred. add_figure renders at once and passes its image to add_image."""
