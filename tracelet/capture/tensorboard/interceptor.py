"""What torch's and tensorboardX's SummaryWriter write, as records.

A record is born from an *event* that reached a FileWriter (or its dummy), after the host's own call returned. The
public `add_*` methods only explain the events inside them: the float64 of the argument instead of the float32 of
the file, the tag before tensorboardX cleans it, the series of add_scalars, the dict of add_hparams. So every user
action is carried exactly once, whatever calls whatever, and what the host refused is not carried at all.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from threading import get_ident
from types import FunctionType, ModuleType
from typing import Any

from tracelet.capture import values as snapshot
from tracelet.capture.series import Directory, SeriesNames
from tracelet.capture.tensorboard import events
from tracelet.capture.tensorboard.async_events import AsyncEvents
from tracelet.capture.tensorboard.calls import CONTEXTS, CallContext, ScalarCall, ScalarContext, exact_scalar
from tracelet.capture.tensorboard.checksum import IS_COMPILED, masked_crc32c
from tracelet.capture.tensorboard.dummy_writer import DummyWriters
from tracelet.capture.tensorboard.event_modes import Method, Mode, ModeContext
from tracelet.capture.tensorboard.import_hook import ImportWatcher
from tracelet.capture.tensorboard.no_events import NoEventFiles
from tracelet.capture.tensorboard.open_files import OpenFiles
from tracelet.capture.tensorboard.patches import Patches
from tracelet.capture.tensorboard.unmodified import Unmodified, is_of
from tracelet.capture.tensorboard.wrapped import PatchCheck
from tracelet.guard import Guard
from tracelet.records import Params, Record, Scalar

_HPARAMS_KEPT = 16
_MODES: dict[str, type[Mode]] = {"sync": Mode, "async": AsyncEvents, "off": NoEventFiles}

MODULES = ("torch.utils.tensorboard.writer", "tensorboardX.writer")
# Each binds `masked_crc32c` by name; it computes in Python, on a thread that holds the interpreter.
_RECORD_WRITERS = ("tensorboard.summary.writer.record_writer", "tensorboardX.record_writer")


class SummaryWriterInterceptor:
    """Sends what SummaryWriters write to `submit`, from `install` to `uninstall`.

    Captures writers made before and after, classes imported before and after, and subclasses. After `uninstall` the
    classes hold what they held before, but where somebody wrapped a method after us: there ours passes on.
    """

    def __init__(
        self,
        submit: Callable[[Record], None],
        series: SeriesNames,
        guard: Guard,
        *,
        events: str = "sync",
        queue_bytes: int = 2**28,
    ) -> None:
        self._submit: Callable[[Record], None] | None = submit
        self._series = series
        self._guard = guard
        # The public call now running in each thread. A dictionary by thread id: half the cost of a threading.local.
        self._claims: dict[int, ScalarContext | CallContext | None] = {}
        self._last: tuple[Any, Directory] = (None, Directory(series, "", ""))
        self._untouched = Unmodified()
        self._plain: set[type] = set()  # writer classes with an untouched `_get_file_writer`
        self._senders = self._untouched.senders
        self._hparams: dict[bytes, dict[str, Any]] = {}
        around = ModeContext(submit, series, guard, self._claims, self._untouched, queue_bytes)
        self._mode = _MODES[events](around)
        self._patches = Patches()
        self._open_files = OpenFiles(guard)
        patches: dict[str, Callable[[ModuleType], None]] = dict.fromkeys(MODULES, self._patch)
        patches |= dict.fromkeys(_RECORD_WRITERS, self._patch_records)
        self._patch_each = patches
        self._watcher = ImportWatcher(patches)

    def install(self) -> None:
        self._mode.start()
        self._watcher.install()
        for name, patch in self._patch_each.items():
            if (module := sys.modules.get(name)) is not None:
                patch(module)

    def drain(self, deadline: float) -> bool:
        """Whether every call made before is in its event file, and its records submitted, before `deadline`."""
        return self._mode.drain(deadline)

    def uninstall(self) -> None:
        self._mode.end()
        self._open_files.is_on = False
        self._submit = None
        self._last = (None, self._last[1])
        self._watcher.uninstall()
        self._patches.undo()

    def _patch_records(self, module: ModuleType) -> None:
        """The same checksums, computed outside Python, into files that stay open."""
        if IS_COMPILED:
            self._patches.wrap(module, "masked_crc32c", lambda original: masked_crc32c)
        if is_of(module, module.RecordWriter.__init__, module.RecordWriter.write):
            self._patches.wrap(module.RecordWriter, "__init__", self._open_files.tee_init)

    def _patch(self, module: ModuleType) -> None:
        """Wrap the module's classes; a module that is still being imported by another thread comes again later."""
        writer, file_writer = getattr(module, "SummaryWriter", None), getattr(module, "FileWriter", None)
        if writer is None or file_writer is None:
            return
        own = writer.add_scalar, writer._get_file_writer, file_writer.add_summary, file_writer.add_event
        untouched = is_of(module, *own)
        self._patches.wrap(file_writer, "add_event", self._tee_event)
        self._mode.patch(module, self._patches)
        reach = PatchCheck(module)
        self._patches.wrap(writer, "__init__", self._tee_init)
        self._wrap(reach, "add_scalar", functools.partial(self._tee_scalar, reach))
        for name, claim_class in CONTEXTS.items():
            self._wrap(reach, name, functools.partial(self._tee, claim_class, reach))
        if untouched:
            self._untouched.meet(writer, file_writer)
        summary = sys.modules.get(module.__name__.removesuffix("writer") + "summary")
        if summary is not None:
            self._wrap_hparams(summary)
        dummy = getattr(module, "DummyFileWriter", None)  # tensorboardX, write_to_disk=False
        if dummy is not None:
            self._patches.wrap(dummy, "add_event", self._tee_event)
            unwritten = DummyWriters(module.Event, self._guard, self._event)
            self._patches.wrap(dummy, "add_summary", unwritten.tee_summary)
            self._patches.wrap(dummy, "add_graph", unwritten.tee_graph)
            self._patches.wrap(dummy, "add_onnx_graph", unwritten.tee_onnx)

    def _wrap(self, reach: PatchCheck, name: str, tee: Callable[[Method], Method]) -> None:
        def wrapper(original: Method) -> Method:
            return self._mode.wrap(reach.module, original, tee(original))

        self._patches.wrap(reach.writer, name, wrapper)

    def _wrap_hparams(self, summary: ModuleType) -> None:
        """Also where it was imported by name before us, as Stable-Baselines3 does."""
        found = vars(summary).get("hparams")
        plain = getattr(found, "__wrapped__", found)
        for module in [summary, *sys.modules.values()]:
            if isinstance(module, ModuleType) and getattr(module, "__name__", None) not in MODULES:
                bound = vars(module).get("hparams")
                if isinstance(bound, FunctionType) and getattr(bound, "__wrapped__", bound) is plain:
                    self._patches.wrap(module, "hparams", self._tee_hparams)

    # The wrappers. Each calls the host's own first, lets its exception through, and runs our lines in the guard.

    def _tee_init(self, original: Method) -> Method:
        @functools.wraps(original)
        def __init__(writer: Any, *args: Any, **kwargs: Any) -> None:
            original(writer, *args, **kwargs)
            if self._submit is not None:
                self._guard.call(self._meet, writer)

        return __init__

    def _tee_scalar(self, reach: PatchCheck, original: Method) -> Method:
        claims, file_writer = self._claims, reach.file_writer

        # Named like both libraries' own, and passed on by hand: packing and unpacking would be a sixth of all we add.
        @functools.wraps(original)
        def add_scalar(
            writer: Any, tag: Any, scalar_value: Any, global_step: Any = None, *args: Any, **kwargs: Any
        ) -> Any:
            if file_writer.add_event is not reach.known:
                self._mend(reach)
            thread = get_ident()
            outer = claims.get(thread)
            claims[thread] = (writer.__class__, tag, scalar_value, global_step)
            try:
                if args or kwargs:
                    return original(writer, tag, scalar_value, global_step, *args, **kwargs)
                return original(writer, tag, scalar_value, global_step)
            finally:
                claims[thread] = outer

        return add_scalar

    def _tee(self, claim_class: type[CallContext], reach: PatchCheck, original: Method) -> Method:
        claims, file_writer = self._claims, reach.file_writer

        @functools.wraps(original)
        def tee(writer: Any, *args: Any, **kwargs: Any) -> Any:
            if self._submit is None:
                return original(writer, *args, **kwargs)
            if file_writer.add_event is not reach.known:
                self._mend(reach)
            thread = get_ident()
            outer = claims.get(thread)
            claim = claims[thread] = claim_class(writer, args, kwargs)
            try:
                result = original(writer, *args, **kwargs)
                claim.returned = True
                return result
            finally:
                claims[thread] = outer
                if claim.has_rest:
                    self._guard.call(self._rest, claim)

        return tee

    def _tee_hparams(self, original: Method) -> Method:
        @functools.wraps(original)
        def hparams(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if self._submit is not None:
                self._guard.call(self._remember, result[1], args[0] if args else kwargs.get("hparam_dict"))
            return result

        return hparams

    def _tee_event(self, original: Method) -> Method:
        return self._guard.follow(original, self._event)

    # Ours, inside the guard.

    def _mend(self, reach: PatchCheck) -> None:
        """Somebody changed `add_event`: if that dropped our wrapper, wrap what stands there now."""
        if self._submit is None:
            return
        thread = get_ident()
        outer, self._claims[thread] = self._claims.get(thread), None
        try:
            if self._guard.call(reach.is_lost):
                self._patches.wrap(reach.file_writer, "add_event", self._tee_event)
                reach.mended()
                for name, claim_class in CONTEXTS.items():  # who drops one of ours may have dropped others
                    if not claim_class.has_rest:  # claimed twice is harmless, but for what comes after the call
                        self._wrap(reach, name, functools.partial(self._tee, claim_class, reach))
        finally:
            self._claims[thread] = outer

    def _meet(self, writer: Any) -> None:
        """A writer was made: the first one is the root. A writer inside a public call is the host's own affair."""
        log_dir = writer.file_writer.get_logdir()
        claim = self._claims.get(get_ident())
        if isinstance(claim, CallContext):
            if claim.nested_dir is not None:
                parent = self._series[claim.parent_dir]  # known before its child, which must not become the root
                self._series.alias(log_dir, os.path.join(parent.path, claim.nested_dir))
        else:
            self._series.meet(log_dir)

    def _event(self, file_writer: Any, event: Any, step: Any, walltime: Any) -> None:
        """One event reached the file."""
        submit = self._submit
        if submit is None:
            return
        wall_time = event.wall_time
        if not wall_time and walltime is None:  # tensorboardX's use_metadata(global_step=...) leaves it out
            wall_time = time.time()
        claim = self._claims.get(get_ident())
        if claim.__class__ is tuple and step is not None:
            writer_class, tag, value, given = claim
            # Reading the tag out of the message costs more than all else here. Where the step is the very object that
            # the call was given, and the class gets its file writer as the library does, it is the call's own event.
            sender, senders = file_writer.__class__, self._senders
            if (
                step is given
                and writer_class in self._plain
                and sender.add_event in senders
                and sender.add_summary in senders
            ):
                number = value if value.__class__ is float else exact_scalar(value)
                if number is not None and tag.__class__ is str:
                    last, directory = self._last
                    if last is not file_writer:
                        directory = self._series[file_writer.get_logdir()]
                        self._last = (file_writer, directory)
                    whole = step if step.__class__ is int else event.step
                    submit(Scalar(directory[tag], number, whole, wall_time, directory.namespace))
                    return
        whole = event.step
        self._slow(file_writer, event, None if step is None and not whole else whole, wall_time, claim, submit)

    def _slow(
        self,
        file_writer: Any,
        event: Any,
        step: int | None,
        wall_time: float,
        claim: ScalarContext | CallContext | None,
        submit: Callable[[Record], None],
    ) -> None:
        log_dir = file_writer.get_logdir()
        if isinstance(claim, tuple):
            writer_class, *arguments = claim
            if getattr(writer_class, "_get_file_writer", None) in self._untouched.getters:
                self._plain.add(writer_class)
            claim = ScalarCall(None, tuple(arguments), {})

        def rename(tag: str, kind: str) -> tuple[str, str]:
            if isinstance(claim, CallContext):
                explained = claim.name(self._series, log_dir, tag, kind)
                if explained is not None:
                    return explained
            directory = self._series[log_dir]
            return directory[tag], directory.namespace

        for record in events.read(event, step, wall_time, rename):
            carried = claim.refine(record, log_dir) if isinstance(claim, CallContext) else record
            if carried is record and isinstance(record, Params):
                carried = self._exact_params(record, event)
            if carried is not None:
                submit(carried)

    def _remember(self, session_start: Any, values: Any) -> None:
        """The summary that somebody (Lightning) makes of hyper-parameters to add it by himself has floats for ints."""
        self._hparams[session_start.value[0].metadata.plugin_data.content] = snapshot.params(values)
        while len(self._hparams) > _HPARAMS_KEPT:
            del self._hparams[next(iter(self._hparams))]

    def _exact_params(self, record: Params, event: Any) -> Params:
        values = self._hparams.get(event.summary.value[0].metadata.plugin_data.content)
        return record if values is None else Params(values, record.wall_time, record.writer)

    def _rest(self, claim: CallContext) -> None:
        """What a public call leaves behind beside its events."""
        submit = self._submit
        if submit is not None:
            for record in claim.rest(self._series):
                submit(record)
