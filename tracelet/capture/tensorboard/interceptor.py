"""Capture everything that torch's and tensorboardX's SummaryWriter write, as records.

A record is created from an *event* that reached a FileWriter (or its dummy), after the library's own call returned.
The wrapped public `add_*` methods only add detail to the events inside them: the float64 of the argument instead of the
event's float32, the tag before tensorboardX cleans it, the series of add_scalars, the dict of add_hparams. So each
user action is recorded exactly once, even if public methods call each other. A call that raises is not recorded.
"""

from __future__ import annotations

import functools
import shlex
import sys
import time
from collections.abc import Callable
from threading import get_ident
from types import FunctionType, ModuleType
from typing import Any

from tracelet.capture import values as snapshot
from tracelet.capture.import_hook import ImportWatcher
from tracelet.capture.patches import Patches
from tracelet.capture.series import Directory, SeriesNames
from tracelet.capture.tensorboard import compiler, events
from tracelet.capture.tensorboard.async_events import AsyncEvents
from tracelet.capture.tensorboard.calls import (
    CONTEXTS,
    CallContext,
    HParamsContext,
    ScalarCall,
    ScalarContext,
    exact_scalar,
)
from tracelet.capture.tensorboard.checksum import IS_COMPILED, masked_crc32c
from tracelet.capture.tensorboard.directories import WriterDirectories
from tracelet.capture.tensorboard.dummy_writer import DummyWriters
from tracelet.capture.tensorboard.event_modes import Method, Mode, ModeContext
from tracelet.capture.tensorboard.existing_writers import directories_with_values, existing_writers, mark_captured
from tracelet.capture.tensorboard.no_events import NoEventFiles
from tracelet.capture.tensorboard.open_files import OpenFiles
from tracelet.capture.tensorboard.unmodified import Unmodified, is_of
from tracelet.capture.tensorboard.wrapped import PatchCheck
from tracelet.capture.trials import Trials
from tracelet.guard import Guard
from tracelet.records import Params, Record, Scalar

_MAX_HPARAMS = 16
_MODES: dict[str, type[Mode]] = {"sync": Mode, "async": AsyncEvents, "off": NoEventFiles}

MODULES = ("torch.utils.tensorboard.writer", "tensorboardX.writer")
# Each imports `masked_crc32c` by name: a Python function, run on a thread that holds the GIL.
_RECORD_WRITERS = ("tensorboard.summary.writer.record_writer", "tensorboardX.record_writer")


class SummaryWriterInterceptor:
    """Pass everything that SummaryWriters write to `submit`, from `install` to `uninstall`.

    Capture writers created before and after, classes imported before and after, and subclasses. `uninstall` restores
    the original methods. If another tool wrapped a method later, its wrapper stays, and ours only calls the original.
    """

    def __init__(
        self,
        submit: Callable[[Record], None],
        series: SeriesNames,
        guard: Guard,
        *,
        trials: Trials | None = None,
        events: str = "sync",
        queue_bytes: int = 2**28,
    ) -> None:
        self._submit: Callable[[Record], None] | None = submit
        self._series = series
        self._guard = guard
        # The running public call of each thread. A dictionary by thread id costs half as much as a threading.local.
        self._running_calls: dict[int, ScalarContext | CallContext | None] = {}
        self._directories = WriterDirectories(series)
        self._trials = Trials() if trials is None else trials
        self._last: tuple[Any, Directory] = (None, Directory(series, "", ""))
        self._unmodified = Unmodified()
        self._plain: set[type] = set()  # writer classes with an unmodified `_get_file_writer`
        self._senders = self._unmodified.senders
        self._hparams: dict[bytes, dict[str, Any]] = {}
        context = ModeContext(submit, self._directories, guard, self._running_calls, self._unmodified, queue_bytes)
        self._mode = _MODES[events](context)
        self._patches = Patches()
        self._open_files = OpenFiles(guard)
        patches: dict[str, Callable[[ModuleType], None]] = dict.fromkeys(MODULES, self._patch)
        patches |= dict.fromkeys(_RECORD_WRITERS, self._patch_records)
        patches[compiler.MODULE] = self._skip_when_compiling
        self._patch_each = patches
        self._watcher = ImportWatcher(patches)

    def install(self) -> None:
        self._mode.start()
        self._watcher.install()
        for name, patch in self._patch_each.items():
            if (module := sys.modules.get(name)) is not None:
                patch(module)
        self._guard.call(self._meet_existing)

    def drain(self, deadline: float) -> bool:
        """Wait until earlier calls are written and their records submitted; False if `deadline` passes first."""
        return self._mode.drain(deadline)

    def uninstall(self) -> None:
        self._mode.end()
        self._open_files.is_on = False
        self._guard.call(self._submit_trials)
        self._submit = None
        self._last = (None, self._last[1])
        self._watcher.uninstall()
        self._patches.undo()

    def _patch_records(self, module: ModuleType) -> None:
        """Compute the same checksums in compiled code, and keep the event files open."""
        if IS_COMPILED:
            self._patches.wrap(module, "masked_crc32c", lambda original: masked_crc32c)
        if is_of(module, module.RecordWriter.__init__, module.RecordWriter.write):
            self._patches.wrap(module.RecordWriter, "__init__", self._open_files.tee_init)

    def _skip_when_compiling(self, module: ModuleType) -> None:
        self._guard.call(compiler.skip_tracelet, module)

    def _patch(self, module: ModuleType) -> None:
        """Wrap the module's classes. If another thread is still importing it, the import hook calls this again."""
        writer, file_writer = getattr(module, "SummaryWriter", None), getattr(module, "FileWriter", None)
        if writer is None or file_writer is None:
            return
        own = writer.add_scalar, writer._get_file_writer, file_writer.add_summary, file_writer.add_event
        is_unmodified = is_of(module, *own)
        self._patches.wrap(file_writer, "add_event", self._tee_event)
        self._mode.patch(module, self._patches)
        check = PatchCheck(module)
        self._patches.wrap(writer, "__init__", self._tee_init)
        self._wrap(check, "add_scalar", functools.partial(self._tee_scalar, check))
        for name, call_class in CONTEXTS.items():
            self._wrap(check, name, functools.partial(self._tee_method, call_class, check))
        if is_unmodified:
            self._unmodified.add(writer, file_writer)
        summary = sys.modules.get(module.__name__.removesuffix("writer") + "summary")
        if summary is not None:
            self._wrap_hparams(summary)
        dummy = getattr(module, "DummyFileWriter", None)  # tensorboardX, write_to_disk=False
        if dummy is not None:
            self._patches.wrap(dummy, "add_event", self._tee_event)
            dummy_writers = DummyWriters(module.Event, self._guard, self._on_event)
            self._patches.wrap(dummy, "add_summary", dummy_writers.tee_summary)
            self._patches.wrap(dummy, "add_graph", dummy_writers.tee_graph)
            self._patches.wrap(dummy, "add_onnx_graph", dummy_writers.tee_onnx)

    def _wrap(self, check: PatchCheck, name: str, tee: Callable[[Method], Method]) -> None:
        def wrapper(original: Method) -> Method:
            return self._mode.wrap(check.module, original, tee(original))

        self._patches.wrap(check.writer, name, wrapper)

    def _wrap_hparams(self, summary: ModuleType) -> None:
        """Wrap `hparams` also in modules that already imported it by name, as Stable-Baselines3 does."""
        current = vars(summary).get("hparams")
        unwrapped = getattr(current, "__wrapped__", current)
        for module in [summary, *sys.modules.values()]:
            bound = getattr(module, "__dict__", {}).get("hparams")
            if (
                isinstance(bound, FunctionType)
                and isinstance(module, ModuleType)
                and getattr(bound, "__wrapped__", bound) is unwrapped
                and module.__name__ not in MODULES
            ):
                self._patches.wrap(module, "hparams", self._tee_hparams)

    # The wrappers. Each calls the original first, lets its exception pass, and runs our own lines in the guard.

    def _tee_init(self, original: Method) -> Method:
        @functools.wraps(original)
        def __init__(writer: Any, *args: Any, **kwargs: Any) -> None:
            original(writer, *args, **kwargs)
            if self._submit is not None:
                self._guard.call(self._on_writer, writer)

        return __init__

    def _tee_scalar(self, check: PatchCheck, original: Method) -> Method:
        running_calls, file_writer = self._running_calls, check.file_writer

        # The parameters are named as in both libraries and passed explicitly: *args would add a sixth to our overhead.
        @functools.wraps(original)
        def add_scalar(
            writer: Any, tag: Any, scalar_value: Any, global_step: Any = None, *args: Any, **kwargs: Any
        ) -> Any:
            if file_writer.add_event is not check.current:
                self._restore_patch(check)
            thread = get_ident()
            outer = running_calls.get(thread)
            running_calls[thread] = (writer, tag, scalar_value, global_step)
            try:
                if args or kwargs:
                    return original(writer, tag, scalar_value, global_step, *args, **kwargs)
                return original(writer, tag, scalar_value, global_step)
            finally:
                running_calls[thread] = outer

        return add_scalar

    def _tee_method(self, call_class: type[CallContext], check: PatchCheck, original: Method) -> Method:
        running_calls, file_writer = self._running_calls, check.file_writer

        @functools.wraps(original)
        def tee(writer: Any, *args: Any, **kwargs: Any) -> Any:
            if self._submit is None:
                return original(writer, *args, **kwargs)
            if file_writer.add_event is not check.current:
                self._restore_patch(check)
            thread = get_ident()
            outer = running_calls.get(thread)
            call = running_calls[thread] = call_class(writer, args, kwargs)
            try:
                result = original(writer, *args, **kwargs)
                call.returned = True
                return result
            finally:
                running_calls[thread] = outer
                if call.has_extra:
                    self._guard.call(self._submit_extra, call)

        return tee

    def _tee_hparams(self, original: Method) -> Method:
        @functools.wraps(original)
        def hparams(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if self._submit is not None:
                self._guard.call(self._store_hparams, result[1], args[0] if args else kwargs.get("hparam_dict"))
            return result

        return hparams

    def _tee_event(self, original: Method) -> Method:
        return self._guard.follow(original, self._on_event)

    # Our own code, inside the guard.

    def _restore_patch(self, check: PatchCheck) -> None:
        """Wrap `add_event` again, if another tool replaced it and dropped our wrapper."""
        if self._submit is None:
            return
        thread = get_ident()
        outer, self._running_calls[thread] = self._running_calls.get(thread), None
        try:
            if self._guard.call(check.is_lost):
                self._patches.wrap(check.file_writer, "add_event", self._tee_event)
                check.reset()
                for name, call_class in CONTEXTS.items():  # others may have been dropped too
                    if not call_class.has_extra:  # a second wrapper is harmless, except for extra records
                        self._wrap(check, name, functools.partial(self._tee_method, call_class, check))
        finally:
            self._running_calls[thread] = outer

    def _meet_existing(self) -> None:
        """Register the writers from before the run, as if they had been created in it."""
        loaded = [sys.modules[name] for name in MODULES if name in sys.modules]
        modules = [module for module in loaded if hasattr(module, "SummaryWriter")]  # not if half imported
        if not modules:
            return
        writers = existing_writers(modules)
        for writer in writers:
            self._guard.call(self._on_writer, writer)
        if early := directories_with_values(writers, modules[0].Event):
            self._guard.log_once(
                "early values",
                "tracelet: values logged before start_logging are not in this run, only in the event files of %s. "
                "Call start_logging earlier, or run: tracelet import %s",
                ", ".join(early),
                shlex.join(early),
            )

    def _on_writer(self, writer: Any) -> None:
        """Register a new writer; the first one sets the root. A writer inside a public call belongs to that call."""
        call = self._running_calls.get(get_ident())
        if not isinstance(call, CallContext):
            mark_captured(writer)
            self._directories.meet(writer)
        elif isinstance(call, HParamsContext):
            directory = self._directories.meet(writer, call.nested_path(self._directories, self._trials))
            self._trials.add_metrics(self._trials.unused(directory.namespace, call.values), call.metrics())

    def _on_event(self, file_writer: Any, event: Any, step: Any, walltime: Any) -> None:
        """Record one event that reached the file."""
        submit = self._submit
        if submit is None:
            return
        wall_time = event.wall_time
        if not wall_time and walltime is None:  # tensorboardX's use_metadata(global_step=...) omits it
            wall_time = time.time()
        call = self._running_calls.get(get_ident())
        if call.__class__ is tuple and step is not None:
            writer, tag, value, call_step = call
            # Reading the tag from the message would cost more than everything else here. If the step is the object
            # passed to the call, and the class uses the library's `_get_file_writer`, it is the call's own event.
            sender, senders = file_writer.__class__, self._senders
            if (
                step is call_step
                and writer.__class__ in self._plain
                and sender.add_event in senders
                and sender.add_summary in senders
            ):
                number = value if value.__class__ is float else exact_scalar(value)
                if number is not None and tag.__class__ is str:
                    last, directory = self._last
                    if last is not file_writer:
                        directory = self._directories.of(file_writer, writer)
                        self._last = (file_writer, directory)
                    whole = step if step.__class__ is int else event.step
                    submit(Scalar(directory[tag], number, whole, wall_time, directory.namespace))
                    return
        whole = event.step
        self._record_slowly(file_writer, event, None if step is None and not whole else whole, wall_time, call, submit)

    def _record_slowly(
        self,
        file_writer: Any,
        event: Any,
        step: int | None,
        wall_time: float,
        call: ScalarContext | CallContext | None,
        submit: Callable[[Record], None],
    ) -> None:
        file_writer.get_logdir()  # shows `PatchCheck` that this wrapper was called
        if isinstance(call, tuple):
            writer, *arguments = call
            if getattr(writer.__class__, "_get_file_writer", None) in self._unmodified.getters:
                self._plain.add(writer.__class__)
            call = ScalarCall(writer, tuple(arguments), {})

        def rename(tag: str, kind: str) -> tuple[str, str]:
            if isinstance(call, CallContext):
                names = call.name(self._directories, file_writer, tag, kind)
                if names is not None:
                    return names
            directory = self._directories.of(file_writer, call.writer if isinstance(call, CallContext) else None)
            return directory[tag], directory.namespace

        for record in events.read(event, step, wall_time, rename):
            exact = call.with_arguments(record) if isinstance(call, CallContext) else record
            if exact is record and isinstance(record, Params):
                exact = self._exact_params(record, event)
            if isinstance(exact, Params):
                for params in self._trials.split(exact, is_new_call=isinstance(call, HParamsContext)):
                    submit(params)
            elif exact is not None:
                submit(exact)

    def _store_hparams(self, session_start: Any, values: Any) -> None:
        """Store exact hyperparameters of a summary that a caller (Lightning) adds itself: its ints became floats."""
        self._hparams[session_start.value[0].metadata.plugin_data.content] = snapshot.params(values)
        while len(self._hparams) > _MAX_HPARAMS:
            del self._hparams[next(iter(self._hparams))]

    def _exact_params(self, record: Params, event: Any) -> Params:
        values = self._hparams.get(event.summary.value[0].metadata.plugin_data.content)
        return record if values is None else Params(values, record.wall_time, record.writer)

    def _submit_extra(self, call: CallContext) -> None:
        """Submit the records of a public call that come from no event."""
        submit = self._submit
        if submit is not None:
            for record in call.extra_records(self._directories):
                submit(record)

    def _submit_trials(self) -> None:
        """Submit the table of all trials, if there are several."""
        submit, name = self._submit, self._series.collected("trials")
        table = self._trials.table(name, time.time())
        if submit is not None and table is not None:
            submit(table)
