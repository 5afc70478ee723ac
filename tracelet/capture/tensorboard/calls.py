"""Add to an event the information that only its public SummaryWriter call has: exact value, tag, series."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeAlias

import msgspec

from tracelet.capture import media
from tracelet.capture import values as snapshot
from tracelet.capture.naming import HPARAMS, tensorboardx_tag
from tracelet.capture.series import Directory
from tracelet.capture.tensorboard.directories import WriterDirectories
from tracelet.capture.trials import Trials
from tracelet.guard import attempted
from tracelet.records import Embedding, Graph, Params, Record, Scalar, Video

ScalarContext: TypeAlias = tuple[Any, Any, Any, Any]
"""add_scalar's writer, tag, value and step: a plain tuple, since this call is made a million times."""


class CallContext:
    """One running call of a public method. By default the first argument is the tag of its events."""

    kinds: ClassVar[frozenset[str]] = frozenset()
    has_extra: ClassVar[bool] = False

    def __init__(self, writer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.writer, self.args, self.kwargs = writer, args, kwargs
        self.tag = args[0] if args else kwargs.get("tag")
        self.returned = False
        self.seen = False

    @property
    def parent_dir(self) -> str:
        return str(self.writer.file_writer.get_logdir())

    def directory(self, directories: WriterDirectories) -> Directory:
        return directories.of(self.writer.file_writer, self.writer)

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def name(self, directories: WriterDirectories, file_writer: Any, tag: str, kind: str) -> tuple[str, str] | None:
        """Return the series name and namespace of an event's tag; None if the event is not from this call."""
        if kind not in self.kinds or not isinstance(self.tag, str):
            return None
        if tag not in (self.tag, tensorboardx_tag(self.tag)):
            return None
        self.seen = True
        directory = directories.of(file_writer, self.writer)
        return directory[self.tag], directory.namespace

    def with_arguments(self, record: Record) -> Record | None:
        """Return the record with exact values from the arguments; None if another record contains it."""
        return record

    def extra_records(self, directories: WriterDirectories) -> Iterator[Record]:
        """Return the records for output without an event; called only if `has_extra`."""
        return iter(())


class ScalarCall(CallContext):
    """add_scalar, if the fast path does not apply."""

    kinds = frozenset({"scalar"})

    def with_arguments(self, record: Record) -> Record | None:
        if isinstance(record, Scalar) and self.seen:
            exact = exact_scalar(self.argument(1, "scalar_value"))
            return record if exact is None else msgspec.structs.replace(record, value=exact)
        return record


class ImageContext(CallContext):
    kinds = frozenset({"image", "video"})


class FigureContext(ImageContext):
    """add_figure renders and passes its image to add_image."""


class VideoContext(CallContext):
    """add_video; if moviepy is missing it writes an empty summary, so the frames are recorded as a GIF."""

    kinds = frozenset({"image", "video"})
    has_extra = True

    def extra_records(self, directories: WriterDirectories) -> Iterator[Record]:
        if self.returned and not self.seen and isinstance(self.tag, str):
            frames, step = self.argument(1, "vid_tensor"), self.argument(2, "global_step")
            fps, walltime = self.argument(3, "fps", 4), self.argument(4, "walltime")
            # tensorboardX alone has `dataformats`.
            data, width, height = media.gif(frames, fps, self.argument(5, "dataformats", "NTCHW"))
            directory = self.directory(directories)
            wall_time = time.time() if walltime is None else float(walltime)
            whole = snapshot.cut_step(step)
            yield Video(directory[self.tag], data, "gif", width, height, whole, wall_time, directory.namespace)


class HistogramContext(CallContext):
    kinds = frozenset({"histogram"})


class AudioContext(CallContext):
    kinds = frozenset({"audio"})


class TextContext(CallContext):
    kinds = frozenset({"text"})


class PRCurveContext(CallContext):
    kinds = frozenset({"pr_curve"})


class MeshContext(CallContext):
    kinds = frozenset({"mesh"})


class TensorContext(CallContext):
    kinds = frozenset({"tensor"})


class ScalarsContext(CallContext):
    """add_scalars writes each series to its own directory, named differently by the two libraries."""

    def __init__(self, writer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(writer, args, kwargs)
        self.tag = self.argument(0, "main_tag")
        self.values = self.argument(1, "tag_scalar_dict")
        self.key: Any = None
        self._keys: dict[str, str] | None = None

    def name(self, directories: WriterDirectories, file_writer: Any, tag: str, kind: str) -> tuple[str, str] | None:
        if kind != "scalar" or not isinstance(self.values, Mapping) or not isinstance(self.tag, str):
            return None
        if tag not in (self.tag, tensorboardx_tag(self.tag)):
            return None
        if self._keys is None:
            self._keys = self._directories(self.tag)
        log_dir = file_writer.get_logdir()
        if log_dir not in self._keys:
            return None
        self.key = self._keys[log_dir]
        directory = self.directory(directories)
        return directory.member(self.tag, self.key), directory.namespace

    def _directories(self, main_tag: str) -> dict[str, str]:
        """Map the directory of each key, as named by torch and by tensorboardX, to the key."""
        parent, keys = self.parent_dir, [key for key in self.values if isinstance(key, str)]
        flat, nested = f"{parent}/{main_tag.replace('/', '_')}_", os.path.join(parent, main_tag)
        return {flat + key: key for key in keys} | {os.path.join(nested, key): key for key in keys}

    def with_arguments(self, record: Record) -> Record | None:
        if isinstance(record, Scalar) and self.key is not None:
            exact = exact_scalar(self.values[self.key])
            self.key = None
            return record if exact is None else msgspec.structs.replace(record, value=exact)
        return record


class HParamsContext(CallContext):
    """add_hparams writes three summaries and its metrics to a directory named by the time or `run_name`."""

    def __init__(self, writer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(writer, args, kwargs)
        # torch has `run_name` as the fourth argument, after a dict of domains; tensorboardX has `name` as the third.
        names = (self.argument(2, "name"), self.argument(3, "run_name"))
        self._run_name = next((name for name in names if name and isinstance(name, str)), None)

    @functools.cached_property
    def values(self) -> dict[str, Any]:
        return snapshot.params(self.argument(0, "hparam_dict"))

    def metrics(self) -> dict[str, float]:
        """Return the metrics that can be read, and without waiting for a device. The library refuses the others."""
        metrics = {
            snapshot.to_text(name): attempted(functools.partial(exact_scalar, value), lambda: None)
            for name, value in dict(self.argument(1, "metric_dict")).items()
        }
        return {name: value for name, value in metrics.items() if value is not None}

    def nested_path(self, directories: WriterDirectories, trials: Trials) -> str:
        """Return the path by which to name the metrics: the directory's own name is the time."""
        parent = self.directory(directories)
        path = os.path.join(parent.path, self._run_name or HPARAMS)
        if self._run_name:
            return path
        name = directories.series[path].namespace
        return path + trials.unused(name, self.values).removeprefix(name)

    def with_arguments(self, record: Record) -> Record | None:
        # The event has floats instead of ints and bools, and no None.
        return msgspec.structs.replace(record, values=self.values) if isinstance(record, Params) else record


class GraphContext(CallContext):
    """add_graph writes the graph and its run metadata as two events; record them as one."""

    has_extra = True

    def __init__(self, writer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(writer, args, kwargs)
        self._graphs: list[Graph] = []

    def with_arguments(self, record: Record) -> Record | None:
        if isinstance(record, Graph):
            self._graphs.append(record)
            return None
        return record

    def extra_records(self, directories: WriterDirectories) -> Iterator[Record]:
        if self._graphs:
            parts = [part for record in self._graphs for part in record.parts if part]
            yield msgspec.structs.replace(self._graphs[0], parts=tuple(parts))


class EmbeddingContext(CallContext):
    """add_embedding writes no event, only files next to the event file (tensors.tsv, metadata.tsv, sprite.png)."""

    has_extra = True

    def extra_records(self, directories: WriterDirectories) -> Iterator[Record]:
        if not self.returned:
            return
        step, tag = self.argument(3, "global_step"), self.argument(4, "tag", "default")
        folder_step = 0 if step is None else step
        directory = self.directory(directories)
        folder = os.path.join(self.parent_dir, str(folder_step).zfill(5), self.writer._encode(tag))
        # The folder may still contain files of an earlier call with the same step and tag.
        is_passed = {"tensors.tsv": True, "metadata.tsv": self.argument(1, "metadata") is not None}
        is_passed["sprite.png"] = self.argument(2, "label_img") is not None
        names = [name for name, wanted in is_passed.items() if wanted and _has(folder, name)]
        parts = tuple(_read(os.path.join(folder, name)) for name in names)
        whole = snapshot.cut_step(step)
        yield Embedding(directory[tag], tuple(names), parts, whole, time.time(), directory.namespace)


CONTEXTS: dict[str, type[CallContext]] = {
    "add_scalars": ScalarsContext,
    "add_histogram": HistogramContext,
    "add_histogram_raw": HistogramContext,
    "add_image": ImageContext,
    "add_images": ImageContext,
    "add_image_with_boxes": ImageContext,
    "add_figure": FigureContext,
    "add_video": VideoContext,
    "add_audio": AudioContext,
    "add_text": TextContext,
    "add_pr_curve": PRCurveContext,
    "add_pr_curve_raw": PRCurveContext,
    "add_mesh": MeshContext,
    "add_tensor": TensorContext,
    "add_hparams": HParamsContext,
    "add_graph": GraphContext,
    "add_onnx_graph": GraphContext,
    "add_openvino_graph": GraphContext,
    "add_embedding": EmbeddingContext,
}


def exact_scalar(argument: Any) -> float | None:
    """Return the argument as float64; None if the event's value is as exact, or safer to read.

    Read a tensor on a device only if it is more precise than the event (float64, int64): a second read would wait for
    the device again. A meta tensor has no value; TensorBoard writes a random one.
    """
    while isinstance(argument, (list, tuple)) and len(argument) == 1:
        argument = argument[0]
    device = getattr(argument, "device", None)
    device_type = getattr(device, "type", "cpu")
    if device_type == "meta" or (device_type != "cpu" and str(argument.dtype) not in ("torch.float64", "torch.int64")):
        return None
    try:
        # Both libraries accept a number as text; `log_metric` does not.
        return float(argument) if isinstance(argument, (str, bytes)) else snapshot.number(argument)
    except (TypeError, ValueError, OverflowError):
        return None


def _has(folder: str, name: str) -> bool:
    return os.path.isfile(os.path.join(folder, name))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
