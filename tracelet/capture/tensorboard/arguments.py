"""What a deferred call needs of its arguments: a copy of the values, and the certainty that the host takes them.

The host's refusals belong on the caller's line. So only what both libraries certainly accept is deferred; of everything
else (a list, a strange type or shape, values that are not finite, other bins) the host is told at once, as without us.
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
    """The arguments of one call with a copy for the values; `is_certain` where the host accepts them."""

    __slots__ = ("args", "is_certain", "size")

    def __init__(self, args: tuple[Any, ...], size: int, is_certain: bool) -> None:
        self.args, self.size, self.is_certain = args, size, is_certain


class Copier:
    """Copies the arguments of one method of one library; `original` is the library's own function."""

    def __init__(self, original: Callable[..., Any], rule: Rule, *, is_torch: bool) -> None:
        self._signature = inspect.signature(original)
        self._values = list(self._signature.parameters)[2]  # after the writer and the tag, in either library
        self._rule, self._is_torch = rule, is_torch

    def copy(
        self, writer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], has_room: Callable[[int], bool]
    ) -> Copied | None:
        """The copied arguments, with a wall time where there was none; None where the host must see for itself.

        `has_room` is asked, and may wait, before anything is copied.
        """
        try:
            bound = self._signature.bind(writer, *args, **kwargs)
        except TypeError:
            return None
        bound.apply_defaults()
        given = bound.arguments
        if given["walltime"] is None:
            given["walltime"] = time.time()
        source = _Source.of(given[self._values], self._is_torch)
        if source is None or not _has_plain_place(given) or not self._rule.accepts(source, given, self._is_torch):
            return None
        if not has_room(source.size):
            return None
        values = source.copy()
        if values is None:
            return None
        given[self._values] = values
        return Copied(bound.args, values.nbytes, _is_within(values, self._rule.limit, self._is_torch))


class _Source:
    """An array or tensor that the host makes a numpy array of without fail."""

    def __init__(self, values: Any, dtype: str, shape: tuple[int, ...], size: int, is_tensor: bool) -> None:
        self._values, self.dtype, self.shape, self.size, self._is_tensor = values, dtype, shape, size, is_tensor

    @classmethod
    def of(cls, values: Any, is_torch: bool) -> _Source | None:
        """Subclasses have ways of their own, and are none."""
        module, name = values.__class__.__module__, values.__class__.__qualname__
        if (module, name) == ("numpy", "ndarray"):
            dtype, is_plain = values.dtype.name, values.dtype.isnative
        elif (module, name) in (("torch", "Tensor"), ("torch.nn.parameter", "Parameter")):
            dtype = str(values.dtype).removeprefix("torch.")
            is_plain = str(values.layout) == "torch.strided" and values.device.type in ("cpu", "cuda", "mps", "xpu")
            if dtype == "bfloat16" and is_torch:  # for which torch's writer takes float16
                dtype = "float16"
        else:
            return None
        if not is_plain or dtype not in _NUMBERS or 0 in values.shape:
            return None
        shape = tuple(values.shape)
        return cls(values, dtype, shape, math.prod(shape) * int(values.dtype.itemsize), module != "numpy")

    def copy(self) -> Any:
        """The values as a numpy array of their own; None where the tensor has none to give."""
        if not self._is_tensor:
            return self._values.copy(order="K")
        try:
            tensor = self._values.detach()
            if str(tensor.dtype) == "torch.bfloat16":
                return tensor.half().cpu().numpy()
            array = tensor.cpu().numpy()
        except (RuntimeError, TypeError, ValueError):  # under vmap, with a negative bit: the host says what is wrong
            return None
        return array.copy(order="K") if tensor.device.type == "cpu" else array


class Rule:
    """What one method certainly accepts: by shape, type and options, then by the range of the values."""

    def __init__(self, accepts: Callable[[_Source, Arguments, bool], bool], limit: float) -> None:
        self.accepts, self.limit = accepts, limit


def _has_plain_place(given: Arguments) -> bool:
    tag, step, walltime = given["tag"], given["global_step"], given["walltime"]
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
    """Whether all values are finite and at most `limit`, so that no sum or product of the host's overflows."""
    if values.dtype.name in ("bool", "uint8"):
        return True
    low, high = float(values.min()), float(values.max())
    if not (-limit <= low and high <= limit):
        return False
    # tensorboardX sums up first, in that type.
    return is_torch or max(-low, high) * values.size < _LARGEST.get(values.dtype.name, math.inf)


def _image(source: _Source, given: Arguments, is_torch: bool) -> bool:
    axes = given["dataformats"].upper() if given["dataformats"].__class__ is str else ""
    if len(axes) != len(source.shape):
        return False
    lengths = dict(zip(axes, source.shape, strict=True))
    if "".join(sorted(lengths)) not in ("CHNW", "CHW", "HW"):
        return False
    channels = lengths.get("C", 1)
    if channels not in (1, 3, 4) or (is_torch and "N" in lengths and channels == 4):
        return False
    return _are_there("PIL.Image") if is_torch else _are_there("PIL.Image", "packaging.version")


def _histogram(_: _Source, given: Arguments, is_torch: bool) -> bool:
    # Names of numpy's rules, numbers and edges may be more bins than fit the values: only numpy can tell.
    is_own = given["bins"].__class__ is str and given["bins"] == "tensorflow"
    if not is_own or given["max_bins"] is not None or given["self"].default_bins != _default_bins():
        return False
    given["bins"] = _default_bins()
    return True


def _audio(source: _Source, given: Arguments, is_torch: bool) -> bool:
    rate = given["sample_rate"]
    if source.dtype not in ("float32", "float64") or rate.__class__ is not int or not 1 <= rate <= 1_000_000:
        return False
    if is_torch:
        return len([length for length in source.shape if length > 1]) == 1
    return (len(source.shape) == 1 or (len(source.shape) == 2 and source.shape[1] <= 2)) and _are_there("soundfile")


def _video(source: _Source, given: Arguments, is_torch: bool) -> bool:
    axes, fps = given.get("dataformats", "NTCHW"), given["fps"]  # torch has the one order
    if axes.__class__ is not str or len(source.shape) != 5 or sorted(axes.upper()) != sorted("NTCHW"):
        return False
    if fps.__class__ not in (int, float) or not 1 <= fps <= 100 or source.shape[axes.upper().index("C")] != 3:
        return False
    if importlib.util.find_spec("moviepy") is None:  # then the host writes nothing, and refuses nothing
        return True
    return _are_there("moviepy.editor" if is_torch else "moviepy.video.io.ImageSequenceClip")


def _are_there(*modules: str) -> bool:
    """Imported here, where the host would import them: what is missing is missed on the caller's line."""
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError:
        return False
    return True


@functools.cache
def _default_bins() -> list[float]:
    """The edges of `bins="tensorflow"`, as both libraries make them."""
    edge, above = 1e-12, []
    while edge < 1e20:
        above.append(edge)
        edge *= 1.1
    return [-one for one in above[::-1]] + [0] + above


# Pixels beyond this are no picture; of a histogram, what lies within is in a bin, and its squares can be summed.
_IMAGE, _HISTOGRAM, _AUDIO, _VIDEO = Rule(_image, 256), Rule(_histogram, 1e19), Rule(_audio, 1), Rule(_video, 256)

DEFERRABLE: dict[str, Rule] = {
    "add_histogram": _HISTOGRAM,
    "add_image": _IMAGE,
    "add_images": _IMAGE,
    "add_video": _VIDEO,
    "add_audio": _AUDIO,
}
"""add_figure is drawn at once, and hands its picture to add_image."""
