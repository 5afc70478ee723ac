"""`events=False`: SummaryWriters without event files."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from threading import get_ident
from types import ModuleType
from typing import Any

from tracelet.capture.patches import Patches
from tracelet.capture.series import Directory
from tracelet.capture.tensorboard.calls import CallContext
from tracelet.capture.tensorboard.event_modes import Method, Mode, ModeContext
from tracelet.capture.tensorboard.unmodified import is_of
from tracelet.guard import Guard
from tracelet.records import Record, Scalar

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class NoEventFiles(Mode):
    """Writers created during the run never write a file; a plain add_scalar skips the library's call."""

    def __init__(self, context: ModeContext) -> None:
        self._guard, self._unmodified = context.guard, context.unmodified
        self._directories = context.directories
        self._submit: Callable[[Record], None] | None = context.submit
        self._switch = _Switch(context.running_calls, context.guard)
        # The writer of the last scalar, its file writer and its series names.
        self._last: tuple[Any, Any, Directory] = (None, None, Directory(context.directories.series, "", ""))

    def patch(self, module: ModuleType, patches: Patches) -> None:
        patches.wrap(module, "EventFileWriter", self._switch.replace)

    def wrap(self, module: ModuleType, original: Method, tee: Method) -> Method:
        if original.__name__ == "add_scalar" and is_of(module, original):
            return self._wrap_scalar(module, original, tee)
        return tee

    def end(self) -> None:
        self._switch.is_on = False
        self._submit = None
        self._last = (None, None, self._last[2])

    def _wrap_scalar(self, module: ModuleType, original: Method, tee: Method) -> Method:
        sender, call, now = module.FileWriter, self._guard.call, time.time
        add_event, add_summary = sender.add_event, sender.add_summary
        has_blocks = hasattr(sender, "use_metadata")  # tensorboardX: metadata for the calls in a `with` block

        def submit_directly(writer: Any, tag: Any, value: Any, step: Any) -> bool:
            """Submit the record without the library's call; False if the library might reject or write it."""
            submit = self._submit
            if submit is None:
                return False
            last_writer, file_writer, directory = self._last
            if writer is not last_writer or writer.file_writer is not file_writer:
                if not self._is_plain(writer):
                    return False
                file_writer = writer.file_writer
                directory = self._directories.of(file_writer, writer)
                self._last = (writer, file_writer, directory)
            if value.__class__ is float:
                if value - value != 0.0:  # tensorboardX warns about non-finite values
                    return False
            elif value.__class__ is int and _LOWEST <= value <= _HIGHEST:
                value = float(value)
            else:
                return False
            if step is not None and not (step.__class__ is int and _LOWEST <= step <= _HIGHEST):
                return False
            name = directory.get(tag) if tag.__class__ is str else None
            if name is None:  # the library must validate a new tag
                return False
            if sender.add_event is not add_event or sender.add_summary is not add_summary:
                return False
            if has_blocks and file_writer._default_metadata:
                return False
            submit(Scalar(name, value, step, now(), directory.namespace))
            return True

        # The parameters are named as in both libraries and in the inner wrapper.
        @functools.wraps(original)
        def add_scalar(
            writer: Any, tag: Any, scalar_value: Any, global_step: Any = None, *args: Any, **kwargs: Any
        ) -> Any:
            if args or kwargs or not call(submit_directly, writer, tag, scalar_value, global_step):
                return tee(writer, tag, scalar_value, global_step, *args, **kwargs)
            return None

        return add_scalar

    def _is_plain(self, writer: Any) -> bool:
        return self._unmodified.applies_to(writer) and self._switch.silences(writer.file_writer)


class _Switch:
    """Replace a library's EventFileWriter by a class whose instances write nothing if created while this is on.

    After it is off, a class derived from the replacement writes real files again.
    """

    def __init__(self, running_calls: Mapping[int, Any], guard: Guard) -> None:
        self.is_on = True
        self._running_calls, self._guard = running_calls, guard
        self._classes: set[type] = set()

    def replace(self, original: Any) -> Any:
        switch = self

        class EventFileWriter(original):  # type: ignore[misc]
            def __init__(
                self, logdir: Any, max_queue_size: Any = 10, flush_secs: Any = 120, filename_suffix: Any = ""
            ) -> None:
                self.is_silent = switch._guard.call(switch._is_silent) is True
                if self.is_silent:
                    self._logdir = logdir
                else:
                    super().__init__(logdir, max_queue_size, flush_secs, filename_suffix)

            def get_logdir(self) -> Any:
                return self._logdir if self.is_silent else super().get_logdir()

            def add_event(self, event: Any) -> None:
                if not self.is_silent:
                    super().add_event(event)

            def flush(self) -> None:
                if not self.is_silent:
                    super().flush()

            def close(self) -> None:
                if not self.is_silent:
                    super().close()

            def reopen(self) -> None:
                if not self.is_silent:
                    super().reopen()

        functools.update_wrapper(EventFileWriter, original, updated=())
        self._classes.add(EventFileWriter)
        return EventFileWriter

    def silences(self, file_writer: Any) -> bool:
        """Check if this FileWriter writes no file."""
        event_writer: Any = getattr(file_writer, "event_writer", None)
        cls = event_writer.__class__
        return cls in self._classes and event_writer.is_silent is True

    def _is_silent(self) -> bool:
        """Decide if a new writer writes nothing; inside add_scalars or add_hparams it follows the outer writer."""
        call = self._running_calls.get(get_ident())
        outer = getattr(call.writer, "file_writer", None) if isinstance(call, CallContext) else None
        return self.is_on and (not hasattr(outer, "event_writer") or self.silences(outer))
