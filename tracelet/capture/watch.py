"""Histograms of a model's gradients and parameters, of one backward pass in so many.

Hooks stand on the parameters' tensors alone. A module's own hooks would travel with a copy or a pickle of the model,
and change the graph; these see each gradient on its way, and give nothing back.
"""

from __future__ import annotations

import functools
import math
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from tracelet.capture import values as snapshot
from tracelet.errors import ConfigurationError
from tracelet.guard import Guard
from tracelet.records import Histogram, Record, Scalar

Watched: TypeAlias = Literal["gradients", "parameters", "all"]
_WATCHED = ("gradients", "parameters", "all")

_BUCKETS = 64
# Elements that are looked at together: what that needs beside the tensor stays below 100 MB, however large it is.
_CHUNK = 1 << 20
_FACTS = 6


class _Taken(NamedTuple):
    """What was measured of a tensor of `size` values; `facts` are still on its device."""

    tag: str
    size: int
    facts: Any


class Watching:
    """The models that one run watches. `submit` takes a record, `named` gives a series its name."""

    def __init__(self, submit: Callable[[Record], None], named: Callable[[str], str], guard: Guard) -> None:
        self._submit, self._named, self._guard = submit, named, guard
        self._watches: list[_Watch] = []

    def begin(self, model: Any, what: str, every: int, name: str, step: Callable[[], int] | None) -> None:
        """Watch a model from now on; what it was watched for before ends."""
        torch = sys.modules.get("torch")  # a module cannot be there without it
        if torch is None or not isinstance(model, torch.nn.Module):
            raise ConfigurationError(f"watch takes a torch.nn.Module, not {type(model).__name__}")
        if what not in _WATCHED:
            raise ConfigurationError(f"watch: log is one of {', '.join(map(repr, _WATCHED))}, not {what!r}")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ConfigurationError(f"watch: log_freq is a number of backward passes, 1 or more, not {every!r}")
        self.end(model)
        watch = _Watch(torch, model, what, every, name, step, self._submit, self._named, self._guard)
        alike = {tag for one in self._watches for tag in one.tags()} & watch.tags()
        self._watches.append(watch)
        if alike:
            self._guard.log_once(
                "watched together",
                "tracelet: two watched models have a parameter %r, and share its series. Tell them apart by "
                "watch(model, name=...)",
                min(alike),
            )
        if not watch.hooks:
            self._guard.log_once(
                f"nothing to watch {type(model).__name__}",
                "tracelet: no parameter of the %s requires a gradient yet: nothing of it is logged. Watch it once it "
                "is to be trained (and, if it is lazy, has run once)",
                type(model).__name__,
            )
        if _is_fully_sharded(model):
            self._guard.log_once(
                f"fully sharded {type(model).__name__}",
                "tracelet: the %s is sharded by FSDP, which trains tensors of its own in the parameters' place: watch "
                "meets few of its passes, or none, and logs as little",
                type(model).__name__,
            )

    def end(self, model: Any = None) -> None:
        """Watch one model no longer, or none any more."""
        for watch in list(self._watches):
            watched = watch.model()
            if model is None or watched is None or watched is model:
                watch.end()
                self._watches.remove(watch)


class _Hook:
    """Stands on one parameter. In a pass that is not logged it does no more than tell a new pass from a running one."""

    __slots__ = ("name", "seen", "watch")

    __torch_unserializable__ = True  # or torch warns when the tensor is saved

    def __init__(self, watch: _Watch, name: str) -> None:
        self.watch, self.name = watch, name
        self.seen = 0
        """The number of the last pass that came here."""

    def __call__(self, gradient: Any) -> None:
        watch = self.watch
        # A parameter that is met twice: the pass before broke off, and nobody told its end.
        if not watch.in_pass or self.seen == watch.passes:
            watch.guard.call(watch.begin_pass, self.seen)
        self.seen = watch.passes
        if watch.measures:
            watch.guard.call(watch.take, self.name, gradient)


class _Watch:
    """One model, without keeping it alive. Backward passes of several devices call hooks on several threads."""

    def __init__(
        self,
        torch: Any,
        model: Any,
        what: str,
        every: int,
        name: str,
        step: Callable[[], int] | None,
        submit: Callable[[Record], None],
        named: Callable[[str], str],
        guard: Guard,
    ) -> None:
        self._torch, self.model = torch, weakref.ref(model)
        self._gradients, self._parameters = what in ("gradients", "all"), what in ("parameters", "all")
        self._every, self._step = every, step
        self._submit, self._named, self.guard = submit, named, guard
        self._prefix = f"{name}/" if name else ""
        self.passes = 0
        self.in_pass = False
        self.measures = False
        """This is a pass whose gradients are wanted."""
        self._due = False
        self._taken: list[_Taken] = []
        self._beginning = threading.Lock()
        self.hooks: dict[int, Any] = {}
        """What takes the hook of a parameter away, by the parameter's `id`. No weak reference beside it: torch does not
        swap the insides of a tensor that has one, and `Module.to` and `load_state_dict` would fail."""
        self._look(model)

    def tags(self) -> set[str]:
        """What its series are called, behind the word for what they show."""
        model = self.model()
        return set() if model is None else {self._prefix + name for name, _ in named_parameters(self._torch, model)}

    def end(self) -> None:
        self.measures = self._due = False
        while self.hooks:
            self.hooks.popitem()[1].remove()
        self._taken.clear()

    def _look(self, model: Any) -> None:
        """A hook for each parameter that has none yet: they may be thawed, or replaced, at any time."""
        is_lazy = self._torch.nn.parameter.is_lazy
        for name, parameter in named_parameters(self._torch, model):
            known = self.hooks.get(id(parameter))
            is_hooked = known is not None and known.id in (parameter._backward_hooks or ())  # or another's former id
            if parameter.requires_grad and not is_lazy(parameter) and not is_hooked:
                if parameter._backward_hooks == {}:  # left by former hooks: after such a swap torch asks none of them
                    parameter._backward_hooks = None
                self.hooks[id(parameter)] = parameter.register_hook(_Hook(self, name))

    # In the threads of autograd.

    def begin_pass(self, seen: int) -> None:
        with self._beginning:
            if self.in_pass and seen != self.passes:
                return  # a hook on another device's thread came first
            self._taken.clear()
            self._due = self.hooks != {} and self.passes % self._every == 0
            self.measures = self._due and self._gradients
            self.passes += 1
            self.in_pass = True
        end = functools.partial(self.guard.call, self.end_pass)
        self._torch.autograd.Variable._execution_engine.queue_callback(end)

    def take(self, name: str, gradient: Any) -> None:
        """Measure a gradient where it is; the numbers stay there until the end of the pass."""
        if gradient is not None:
            self._measure(f"gradients/{self._prefix}{name}", gradient)

    def end_pass(self) -> None:
        self.in_pass = self.measures = False
        model, due, self._due = self.model(), self._due, False
        if not due or model is None:
            return
        if self._parameters:
            is_lazy = self._torch.nn.parameter.is_lazy
            for name, parameter in named_parameters(self._torch, model):
                if not is_lazy(parameter):
                    self.guard.call(self._measure, f"parameters/{self._prefix}{name}", parameter)
        taken, self._taken = self._taken, []
        step = self.passes - 1 if self._step is None else snapshot.cut_step(self._step())
        for record in _records(self._torch, taken, step):
            self._submit(_under(record, self._named))
        self._look(model)

    def _measure(self, tag: str, tensor: Any) -> None:
        with self._torch.no_grad():
            values = _flat(self._torch, tensor.detach())
            if values.numel() and not values.is_meta:  # what has no values yet
                self._taken.append(_Taken(tag, values.numel(), measured(self._torch, values)))


def named_parameters(torch: Any, model: Any) -> Iterator[tuple[str, Any]]:
    """A model's parameters, each once, by the names they have without what torch wraps around a model."""
    inner = torch.nn.parallel
    while True:
        if isinstance(model, inner.DataParallel | inner.DistributedDataParallel):
            model = model.module
        elif "_orig_mod" in getattr(model, "_modules", ()):  # torch.compile
            model = model._orig_mod
        else:
            break
    for name, parameter in model.named_parameters():
        yield name.replace("_orig_mod.", ""), parameter


def _is_fully_sharded(model: Any) -> bool:
    fsdp = sys.modules.get("torch.distributed.fsdp")  # nothing is sharded where nobody has imported it
    kinds = tuple(getattr(fsdp, name) for name in ("FSDPModule", "FullyShardedDataParallel") if hasattr(fsdp, name))
    return any(isinstance(one, kinds) for one in model.modules())


def measured(torch: Any, values: Any) -> Any:
    """The facts of values and the counts of their buckets, as one tensor on their device, for which nothing here waits.

    The facts: lowest and highest of the finite values, their number, that of the NaN, sum and sum of squares of the
    finite values.
    """
    wide = torch.float32 if values.device.type == "mps" else torch.float64  # Apple's GPUs know no other
    ends, sums = [], []
    for part in values.split(_CHUNK):
        part = part.to(wide)
        finite = part.isfinite()
        odd = ~finite
        known = part.masked_fill(odd, 0.0)
        ends.append(torch.stack([part.masked_fill(odd, math.inf).amin(), -part.masked_fill(odd, -math.inf).amax()]))
        counts = finite.sum(dtype=wide), part.isnan().sum(dtype=wide)
        sums.append(torch.stack([*counts, known.sum(), known.square().sum()]))
    low, negative_high = torch.stack(ends).amin(dim=0)
    buckets = torch.zeros(_BUCKETS + 1, dtype=wide, device=values.device)
    for part in values.split(_CHUNK):
        at = _places(torch, part.to(wide), low, -negative_high)
        buckets.scatter_add_(0, at, torch.ones_like(at, dtype=wide))
    return torch.cat([torch.stack([low, -negative_high]), torch.stack(sums).sum(dim=0), buckets[:_BUCKETS]])


def _places(torch: Any, part: Any, low: Any, high: Any) -> Any:
    """The bucket of each value; one beyond the last for those that are not finite."""
    half = high / 2 - low / 2  # halves, since the whole range may be beyond the largest float
    scaled = (part / 2 - low / 2) / torch.where(half > 0, half, torch.ones_like(half)) * _BUCKETS
    return scaled.nan_to_num(0.0).clamp(0, _BUCKETS - 1).to(torch.int64).masked_fill(~part.isfinite(), _BUCKETS)


def _flat(torch: Any, tensor: Any) -> Any:
    """All values in one dimension: of a sharded tensor those of this process, of a sparse one those that are stored, of
    complex numbers both parts."""
    if hasattr(tensor, "to_local"):  # a DTensor would ask the other processes, which may not be asking
        tensor = tensor.to_local()
    if tensor.layout != torch.strided:
        tensor = tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor.values()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    # In the order of memory, which does not matter here: else a picture's channels-last weights would be copied whole.
    return tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True)).reshape(-1)


def _records(torch: Any, taken: list[_Taken], step: int | None) -> Iterator[Histogram | Scalar]:
    """Everything that was measured, in one copy from each device."""
    now = time.time()
    for device in dict.fromkeys(one.facts.device for one in taken):
        there = [one for one in taken if one.facts.device == device]
        for one, row in zip(there, torch.stack([one.facts for one in there]).tolist(), strict=True):
            yield from _told(one, row, step, now)


def _told(one: _Taken, row: list[float], step: int | None, now: float) -> Iterator[Histogram | Scalar]:
    low, high, count, nan, total, squares = row[:_FACTS]
    if count:
        edges, counts = _buckets(low, high, row[_FACTS:])
        yield Histogram(one.tag, edges, counts, low, high, count, total, squares, step, now)
    for word, number in (("nan", nan), ("inf", one.size - count - nan)):
        if number:
            yield Scalar(f"{one.tag}/{word}", number, step, now)


def _buckets(low: float, high: float, counts: list[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """From the lowest value to the highest; one around the value, where all are the same. The first is empty and gives
    the left edge."""
    if low == high:
        margin = max(0.5, abs(low) * 1e-9)
        edges = max(low - margin, -sys.float_info.max), min(low + margin, sys.float_info.max)
        return edges, (0.0, sum(counts))
    width = high / _BUCKETS - low / _BUCKETS
    return (*(low + width * at for at in range(_BUCKETS)), high), (0.0, *counts)


def _under(record: Histogram | Scalar, named: Callable[[str], str]) -> Histogram | Scalar:
    return msgspec.structs.replace(record, tag=named(record.tag))
