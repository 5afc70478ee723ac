"""Define the logging methods of `Experiment`; each call creates records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from tracelet import forks
from tracelet.capture import media
from tracelet.capture import values as snapshot
from tracelet.capture.watch import Watched, Watching
from tracelet.errors import ConfigurationError, TraceletError
from tracelet.experiment.summary import Summaries
from tracelet.guard import Guard, described, shown, translated
from tracelet.records import Alert, Audio, Image, Params, Record, Scalar, Table, Tags, Text, Video

Level: TypeAlias = Literal["info", "warning", "error"]
_LEVELS = ("info", "warning", "error")
T = TypeVar("T")


class LogMethods:
    """Log records from any thread. Each method returns once the values are copied.

    Invalid arguments raise `TraceletError` immediately; backend failures never raise. After `stop`, and with
    `mode="disabled"`, the methods do nothing.
    """

    def __init__(self, guard: Guard) -> None:
        self._summary = Summaries(self._submit)
        self._watching = Watching(self._submit, self._name, guard)
        self._step = 0
        self._counting = forks.new_lock()

    @property
    def _running(self) -> bool:
        raise NotImplementedError

    def _submit(self, record: Record) -> None:
        raise NotImplementedError

    def _name(self, tag: str) -> str:
        raise NotImplementedError

    def log_metric(self, name: str, value: Any, step: int | None = None, wall_time: float | None = None) -> None:
        """Log one point: a number, or an array or tensor of one element. `wall_time` is in seconds since the epoch."""
        self._submit_scalar(name, value, snapshot.integer_step(step), _clock(wall_time))

    def log_metrics(self, values: Mapping[str, Any], step: int | None = None, wall_time: float | None = None) -> None:
        """Log several points of one step.

        Raises:
            TraceletError: `values` is not a dict of names and numbers.
        """
        if not isinstance(values, Mapping):
            raise TraceletError(f"log_metrics: values must be a dict of names and numbers, got {shown(values)}")
        int_step, clock = snapshot.integer_step(step), _clock(wall_time)
        for name, value in values.items():
            self._submit_scalar(name, value, int_step, clock)

    def log(self, values: Mapping[str, Any], step: int | None = None, *, commit: bool = True) -> None:
        """Log several values of one step: numbers as metrics, and texts. Without `step`, calls are counted from 0.

        `{"loss": {"train": 0.5}}` becomes `loss/train`.

        Args:
            step: The step of this call. The count continues from it.
            commit: False: the next call without a step has the same one.

        Raises:
            TraceletError: `values` is not a dict, or a value is neither a number nor a text. Nothing is logged then.
        """
        if not self._running:
            return
        if not isinstance(values, Mapping):
            raise TraceletError(f"log: values must be a dict of names and numbers or texts, got {shown(values)}")
        int_step = snapshot.integer_step(step)
        members = translated(
            lambda: list(_members(values)),
            lambda error: TraceletError(f"log cannot read its argument: {described(error)}"),
            keep=(TraceletError,),
        )
        records = [(self._name(name), _number_or_text(name, value)) for name, value in members]
        with self._counting:
            step = self._step if int_step is None else int_step
            self._step = step + 1 if commit else step
        now = time.time()
        for tag, value in records:
            self._submit(Text(tag, value, step, now) if isinstance(value, str) else Scalar(tag, value, step, now))

    def log_params(self, values: Any) -> None:
        """Log hyper-parameters: a dict, dataclass or Namespace, with any nesting.

        `{"model": {"dropout": 0.1}}` becomes `model.dropout` in every backend. Later calls add parameters, or replace
        those with the same name.
        """
        if self._running:
            flat = snapshot.params(values)
            if "" in flat:
                raise TraceletError("log_params: a parameter name must not be empty")
            self._submit(Params(flat, time.time()))

    @property
    def summary(self) -> Summaries:
        """The run's final metrics: set `experiment.summary["best_accuracy"] = 0.93`, or call `.update(...)`.

        Reading returns only the values of this process.
        """
        return self._summary

    def add_tags(self, *tags: str) -> None:
        """Add tags to the run. Duplicates are ignored.

        Raises:
            TraceletError: a tag is empty or not a str.
        """
        if not tags or not self._running:
            return
        for tag in tags:
            if not isinstance(tag, str) or not tag.strip():
                raise TraceletError(f"a tag must be a non-empty str, as in add_tags('a', 'b'), got {shown(tag)}")
        self._submit(Tags(tuple(dict.fromkeys(snapshot.to_plain(tag) for tag in tags)), time.time()))

    def alert(self, title: str, text: str = "", level: Level = "info") -> None:
        """Send an alert, to the address of `alert_webhook` too. A vendor with alerts forwards it as configured there.

        Raises:
            ConfigurationError: unknown level, or empty title.
        """
        if not self._running:
            return
        if not isinstance(level, str) or level not in _LEVELS:
            raise ConfigurationError(f"alert: level must be one of {', '.join(map(repr, _LEVELS))}, got {shown(level)}")
        title = snapshot.to_text(title)
        if not title.strip():
            raise ConfigurationError("alert: title must not be empty")
        self._submit(Alert(title, snapshot.to_text(text), snapshot.to_plain(level), time.time()))

    def log_image(
        self, tag: str, image: Any, step: int | None = None, *, dataformats: str = "CHW", caption: str = ""
    ) -> None:
        """Log an image: an array or tensor, a PIL image or a matplotlib figure.

        Arrays are uint8, or floats in [0, 1]. `dataformats` is CHW, HWC or HW. `caption` is shown below the image.
        """
        if self._running:
            data, width, height = _encoded("log_image", media.png, image, dataformats)
            int_step, text = snapshot.integer_step(step), snapshot.to_text(caption)
            self._submit(Image(self._name(tag), data, "png", width, height, int_step, time.time(), caption=text))

    def log_figure(self, tag: str, figure: Any, step: int | None = None, *, caption: str = "") -> None:
        """Log a matplotlib figure as an image. The figure is not closed."""
        self.log_image(tag, figure, step, caption=caption)

    def log_video(self, tag: str, video: Any, step: int | None = None, *, fps: float = 4, caption: str = "") -> None:
        """Log video frames [T, C, H, W], uint8 or floats in [0, 1], as an animated GIF.

        `caption` is as in `log_image`.
        """
        if self._running:
            data, width, height = _encoded("log_video", media.gif, video, fps)
            int_step, text = snapshot.integer_step(step), snapshot.to_text(caption)
            self._submit(Video(self._name(tag), data, "gif", width, height, int_step, time.time(), caption=text))

    def log_audio(
        self, tag: str, samples: Any, step: int | None = None, *, sample_rate: int = 44100, caption: str = ""
    ) -> None:
        """Log audio samples [L] or [L, channels], floats in [-1, 1] or int16, as 16-bit WAV. `sample_rate` is in Hz.

        `caption` is as in `log_image`.
        """
        if self._running:
            data = _encoded("log_audio", media.wav, samples, sample_rate)
            int_step, text = snapshot.integer_step(step), snapshot.to_text(caption)
            self._submit(Audio(self._name(tag), data, "wav", float(sample_rate), int_step, time.time(), caption=text))

    def log_text(self, tag: str, text: str, step: int | None = None) -> None:
        """Log a text. Backends that support Markdown render it."""
        if self._running:
            self._submit(Text(self._name(tag), snapshot.to_text(text), snapshot.integer_step(step), time.time()))

    def log_table(self, tag: str, data: Any, step: int | None = None, *, columns: Sequence[str] | None = None) -> None:
        """Log a table: a pandas DataFrame, or rows with the names of their `columns`."""
        if self._running:
            payload = _encoded("log_table", media.table, columns, data)
            self._submit(Table(self._name(tag), payload, snapshot.integer_step(step), time.time()))

    def log_histogram(
        self,
        tag: str,
        values: Any = None,
        step: int | None = None,
        *,
        bins: int = 64,
        np_histogram: tuple[Any, Any] | None = None,
    ) -> None:
        """Log a histogram of `values` (any shape) in `bins` equal buckets, or numpy's `(counts, edges)` unchanged."""
        if self._running:
            record = _encoded("log_histogram", media.histogram, values, bins, np_histogram)
            int_step = snapshot.integer_step(step)
            self._submit(msgspec.structs.replace(record, tag=self._name(tag), step=int_step, wall_time=time.time()))

    def watch(
        self,
        model: Any,
        *,
        log: Watched = "gradients",
        log_freq: int = 100,
        name: str = "",
        step: Callable[[], int] | None = None,
    ) -> None:
        """Log histograms of a torch module's gradients, parameters or both, every `log_freq` backward passes.

        The series are `gradients/<parameter>` and `parameters/<parameter>`, or `gradients/<name>/<parameter>` if `name`
        is set. The first pass is logged as step 0, then every `log_freq`-th pass. Watching a module again restarts it.
        If values are not finite, `gradients/<parameter>/nan` and `.../inf` count them. Gradients are those of one pass
        in this process, before accumulation or averaging. Watching ends with `unwatch` or the run.

        Args:
            model: A `torch.nn.Module`. Only a weak reference is stored. Frozen and replaced parameters are detected
                at every logged pass.
            log: `gradients`, `parameters` or `all`.
            log_freq: Number of backward passes between two logged passes.
            name: Distinguishes models whose parameters have the same names.
            step: Returns the step; called at the end of a logged pass. If omitted, passes are counted.

        Raises:
            ConfigurationError: `model` is not a module, or another argument is invalid.
        """
        if self._running:
            self._watching.begin(model, log, log_freq, name, step)

    def unwatch(self, model: Any = None) -> None:
        """Stop watching a module, or all modules if omitted. Remove all hooks."""
        self._watching.end(model)

    def _submit_scalar(self, name: str, value: Any, step: int | None, wall_time: float) -> None:
        if not self._running:
            return
        if type(value) is not float:
            value = translated(
                partial(snapshot.number, value), lambda error: _number_error(f"metric {shown(name)}", value, error)
            )
        self._submit(Scalar(self._name(name), value, step, wall_time))


def _members(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the names and values of a dict, those of nested dicts as `outer/inner`."""
    for name, value in values.items():
        if not isinstance(name, str):
            raise TraceletError(f"a name must be a str, got {shown(name)}")
        if isinstance(value, Mapping):
            yield from _members(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def _number_or_text(name: str, value: Any) -> float | str:
    if isinstance(value, str):
        return snapshot.to_text(value)
    return translated(partial(snapshot.number, value), partial(_number_error, f"metric {shown(name)}", value))


def _clock(wall_time: float | None) -> float:
    if wall_time is None:
        return time.time()
    return translated(partial(float, wall_time), partial(_number_error, "wall_time", wall_time))


def _number_error(name: str, value: Any, error: Exception) -> TraceletError:
    return TraceletError(f"{name} must be a number, got {shown(value)}: {described(error)}")


def _encoded(method: str, encode: Callable[..., T], *args: Any) -> T:
    """Return `encode(*args)`, or raise a `TraceletError`: the arguments are of any type, and so are their errors."""
    return translated(
        partial(encode, *args),
        lambda error: TraceletError(f"{method} cannot encode its argument: {described(error)}"),
        keep=(TraceletError, ImportError),
    )
