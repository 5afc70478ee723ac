"""What a program says through an `Experiment` itself: each call becomes records."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from tracelet.capture import values as snapshot
from tracelet.capture.watch import Watched, Watching
from tracelet.errors import ConfigurationError, TraceletError
from tracelet.experiment.summary import Summaries
from tracelet.guard import Guard
from tracelet.records import Alert, Audio, Image, Params, Record, Scalar, Table, Tags, Text, Video

Level: TypeAlias = Literal["info", "warning", "error"]
_LEVELS = ("info", "warning", "error")


class LogMethods:
    """All may be called from any thread; they return once the values are copied. Errors in their arguments are raised
    at once as `TraceletError`; a backend's trouble never is. After `stop`, and with `mode="disabled"`, they do nothing.
    """

    def __init__(self, guard: Guard) -> None:
        self._figures = Summaries(self._submit)
        self._watching = Watching(self._submit, self._name, guard)

    @property
    def _running(self) -> bool:
        raise NotImplementedError

    def _submit(self, record: Record) -> None:
        raise NotImplementedError

    def _name(self, tag: str) -> str:
        raise NotImplementedError

    def log_metric(self, name: str, value: Any, step: int | None = None, wall_time: float | None = None) -> None:
        """One point: a number, or an array or tensor of one element; `wall_time` in seconds since the epoch."""
        self._submit_scalar(name, value, snapshot.integer_step(step), _clock(wall_time))

    def log_metrics(self, values: Mapping[str, Any], step: int | None = None, wall_time: float | None = None) -> None:
        """Several points of one step."""
        whole, clock = snapshot.integer_step(step), _clock(wall_time)
        for name, value in values.items():
            self._submit_scalar(name, value, whole, clock)

    def log_params(self, values: Any) -> None:
        """Hyper-parameters: a dict, dataclass or Namespace, nested as you like. `{"model": {"dropout": 0.1}}` is
        `model.dropout` in every backend. May be called often; a name given again takes the new value."""
        if self._running:
            flat = snapshot.params(values)
            if "" in flat:
                raise TraceletError("a parameter has a name, which is not empty")
            self._submit(Params(flat, time.time()))

    @property
    def summary(self) -> Summaries:
        """The run's final figures: `experiment.summary["best_accuracy"] = 0.93`, or `.update(...)`. Reads as what this
        process has said."""
        return self._figures

    def add_tags(self, *tags: str) -> None:
        """Words to find the run by, beside those it began with. A tag that is there already stays one.

        Raises:
            TraceletError: a tag that is empty, or is no str.
        """
        if not tags or not self._running:
            return
        for tag in tags:
            if not isinstance(tag, str) or not tag.strip():
                raise TraceletError(f"a tag is a word, as in add_tags('a', 'b'), not {tag!r}")
        self._submit(Tags(tuple(dict.fromkeys(snapshot.plain(tag) for tag in tags)), time.time()))

    def alert(self, title: str, text: str = "", level: Level = "info") -> None:
        """Tell people that they should look. Where a vendor has alerts, they go out as it is set up there.

        Raises:
            ConfigurationError: a level that nobody knows, or no title.
        """
        if not self._running:
            return
        if level not in _LEVELS:
            raise ConfigurationError(f"an alert's level is one of {', '.join(map(repr, _LEVELS))}, not {level!r}")
        if not str(title).strip():
            raise ConfigurationError("an alert has a title")
        self._submit(Alert(snapshot.plain(str(title)), snapshot.plain(str(text)), level, time.time()))

    def log_image(self, tag: str, image: Any, step: int | None = None, *, dataformats: str = "CHW") -> None:
        """An array or tensor (uint8, or floats in [0, 1]; `dataformats` CHW, HWC or HW), a PIL image or a figure."""
        if self._running:
            data, width, height = snapshot.png(image, dataformats)
            self._submit(Image(self._name(tag), data, "png", width, height, snapshot.integer_step(step), time.time()))

    def log_figure(self, tag: str, figure: Any, step: int | None = None) -> None:
        """A matplotlib figure, as it looks now; it is not closed."""
        self.log_image(tag, figure, step)

    def log_video(self, tag: str, video: Any, step: int | None = None, *, fps: float = 4) -> None:
        """Frames [T, C, H, W], uint8 or floats in [0, 1], kept as an animated GIF."""
        if self._running:
            data, width, height = snapshot.gif(video, fps)
            self._submit(Video(self._name(tag), data, "gif", width, height, snapshot.integer_step(step), time.time()))

    def log_audio(self, tag: str, samples: Any, step: int | None = None, *, sample_rate: int = 44100) -> None:
        """Samples [L] or [L, channels], floats in [-1, 1] or int16, kept as 16-bit WAV; `sample_rate` in Hz."""
        if self._running:
            data = snapshot.wav(samples, sample_rate)
            whole = snapshot.integer_step(step)
            self._submit(Audio(self._name(tag), data, "wav", float(sample_rate), whole, time.time()))

    def log_text(self, tag: str, text: str, step: int | None = None) -> None:
        """A text; Markdown is shown as such where a backend can."""
        if self._running:
            self._submit(Text(self._name(tag), snapshot.plain(str(text)), snapshot.integer_step(step), time.time()))

    def log_table(self, tag: str, data: Any, step: int | None = None, *, columns: Sequence[str] | None = None) -> None:
        """A pandas DataFrame, or rows with the names of their `columns`."""
        if self._running:
            payload = snapshot.table(columns, data)
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
        """Values (any shape) in `bins` equal buckets, or numpy's `(counts, edges)` as they are."""
        if self._running:
            record = snapshot.histogram(values, bins, np_histogram)
            whole = snapshot.integer_step(step)
            self._submit(msgspec.structs.replace(record, tag=self._name(tag), step=whole, wall_time=time.time()))

    def watch(
        self,
        model: Any,
        *,
        log: Watched = "gradients",
        log_freq: int = 100,
        name: str = "",
        step: Callable[[], int] | None = None,
    ) -> None:
        """Histograms of a torch module's gradients, parameters or both, of one backward pass in `log_freq`.

        The series are `gradients/<parameter>` and `parameters/<parameter>`, with `name` between where one is given. The
        first pass is logged, as step 0, and then each `log_freq`-th; a module that is watched already begins anew.
        Values that are not finite are in no bucket: `gradients/<parameter>/nan` and `.../inf` count them, where there
        are some. Gradients are those of the pass and the process, before they are accumulated or averaged. Ends with
        `unwatch`, and with the run.

        Args:
            model: A `torch.nn.Module`; it is not kept alive. Parameters that are frozen, or replaced, are looked at
                again in every pass that is logged.
            log: `gradients`, `parameters` or `all`.
            log_freq: Backward passes from one that is logged to the next.
            name: Tells models apart whose parameters have the same names.
            step: Called at the end of a pass that is logged, gives its step; left out, the passes are counted.

        Raises:
            ConfigurationError: no module, or another argument that cannot be meant.
        """
        if self._running:
            self._watching.begin(model, log, log_freq, name, step)

    def unwatch(self, model: Any = None) -> None:
        """Stop watching a module; left out: all of them. Nothing of ours is left in it."""
        self._watching.end(model)

    def _submit_scalar(self, name: str, value: Any, step: int | None, wall_time: float) -> None:
        if not self._running:
            return
        try:
            number = snapshot.number(value)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # torch's own is a RuntimeError
            raise TraceletError(f"metric {name!r}: {value!r} is not a number: {error}") from error
        self._submit(Scalar(self._name(name), number, step, wall_time))


def _clock(wall_time: float | None) -> float:
    return time.time() if wall_time is None else float(wall_time)
