"""`events=False`: SummaryWriters without event files."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from threading import get_ident
from types import ModuleType
from typing import Any

from tracelet.capture.series import Directory
from tracelet.capture.tensorboard.calls import CallContext
from tracelet.capture.tensorboard.event_modes import Method, Mode, ModeContext
from tracelet.capture.tensorboard.patches import Patches
from tracelet.capture.tensorboard.unmodified import is_of
from tracelet.guard import Guard
from tracelet.records import Record, Scalar

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class NoEventFiles(Mode):
    """Writers made during the run keep nothing, to their end; and a plain add_scalar needs no call of the host's."""

    def __init__(self, around: ModeContext) -> None:
        self._guard, self._series, self._untouched = around.guard, around.series, around.untouched
        self._submit: Callable[[Record], None] | None = around.submit
        self._switch = _Switch(around.claims, around.guard)
        # The writer of the last scalar, with its file writer and its names.
        self._last: tuple[Any, Any, Directory] = (None, None, Directory(around.series, "", ""))

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
        has_blocks = hasattr(sender, "use_metadata")  # tensorboardX: values for the calls in a block

        def alone(writer: Any, tag: Any, value: Any, step: Any) -> bool:
            """Whether the record was made without the host's call, which could neither refuse it nor write it."""
            submit = self._submit
            if submit is None:
                return False
            known, file_writer, directory = self._last
            if writer is not known or writer.file_writer is not file_writer:
                if not self._is_plain(writer):
                    return False
                file_writer = writer.file_writer
                directory = self._series[file_writer.get_logdir()]
                self._last = (writer, file_writer, directory)
            if value.__class__ is float:
                if value - value != 0.0:  # tensorboardX warns of what is not finite
                    return False
            elif value.__class__ is int and _LOWEST <= value <= _HIGHEST:
                value = float(value)
            else:
                return False
            if step is not None and not (step.__class__ is int and _LOWEST <= step <= _HIGHEST):
                return False
            name = directory.get(tag) if tag.__class__ is str else None
            if name is None:  # of a new tag, the host must say whether it takes it
                return False
            if sender.add_event is not add_event or sender.add_summary is not add_summary:
                return False
            if has_blocks and file_writer._default_metadata:
                return False
            submit(Scalar(name, value, step, now(), directory.namespace))
            return True

        # Named like both libraries' own, as the wrapper inside.
        @functools.wraps(original)
        def add_scalar(
            writer: Any, tag: Any, scalar_value: Any, global_step: Any = None, *args: Any, **kwargs: Any
        ) -> Any:
            if args or kwargs or not call(alone, writer, tag, scalar_value, global_step):
                return tee(writer, tag, scalar_value, global_step, *args, **kwargs)
            return None

        return add_scalar

    def _is_plain(self, writer: Any) -> bool:
        return self._untouched.holds_for(writer) and self._switch.is_behind(writer.file_writer)


class _Switch:
    """Makes classes that stand in for a library's EventFileWriter, and keep nothing where they are made while it is on.

    Once it is off, a class that somebody derived from one of these makes real files again.
    """

    def __init__(self, claims: Mapping[int, Any], guard: Guard) -> None:
        self.is_on = True
        self._claims, self._guard = claims, guard
        self._classes: set[type] = set()

    def replace(self, original: Any) -> Any:
        switch = self

        class EventFileWriter(original):  # type: ignore[misc]
            def __init__(
                self, logdir: Any, max_queue_size: Any = 10, flush_secs: Any = 120, filename_suffix: Any = ""
            ) -> None:
                self.keeps_nothing = switch._guard.call(switch._is_wanted) is True
                if self.keeps_nothing:
                    self._logdir = logdir
                else:
                    super().__init__(logdir, max_queue_size, flush_secs, filename_suffix)

            def get_logdir(self) -> Any:
                return self._logdir if self.keeps_nothing else super().get_logdir()

            def add_event(self, event: Any) -> None:
                if not self.keeps_nothing:
                    super().add_event(event)

            def flush(self) -> None:
                if not self.keeps_nothing:
                    super().flush()

            def close(self) -> None:
                if not self.keeps_nothing:
                    super().close()

            def reopen(self) -> None:
                if not self.keeps_nothing:
                    super().reopen()

        functools.update_wrapper(EventFileWriter, original, updated=())
        self._classes.add(EventFileWriter)
        return EventFileWriter

    def is_behind(self, file_writer: Any) -> bool:
        """Whether what this FileWriter is given goes nowhere but to us."""
        event_writer: Any = getattr(file_writer, "event_writer", None)
        stand_in = event_writer.__class__
        return stand_in in self._classes and event_writer.keeps_nothing is True

    def _is_wanted(self) -> bool:
        """A writer that is made inside a call of another (add_scalars, add_hparams) has a file if that one has."""
        claim = self._claims.get(get_ident())
        outer = getattr(claim.writer, "file_writer", None) if isinstance(claim, CallContext) else None
        return self.is_on and (not hasattr(outer, "event_writer") or self.is_behind(outer))
