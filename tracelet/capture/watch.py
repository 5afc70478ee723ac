"""Record histograms of a model's gradients and parameters, every N backward passes.

Hooks are on the parameters' tensors only: module hooks would be copied and pickled with the model and change the graph.
A tensor hook reads each gradient and returns nothing.
"""

from __future__ import annotations

import functools
import math
import operator
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from tracelet import forks
from tracelet.capture import values as snapshot
from tracelet.errors import ConfigurationError
from tracelet.guard import Guard, attempted
from tracelet.records import Histogram, Record, Scalar

Watched: TypeAlias = Literal["gradients", "parameters", "all"]
_WATCHED = ("gradients", "parameters", "all")

_BUCKETS = 64
# Elements per chunk: this limits the extra memory to 100 MB, even if the tensor is large.
_CHUNK = 1 << 20
_FACTS = 6


class _Sample(NamedTuple):
    """The statistics of a tensor of `size` values; `facts` are still on its device."""

    tag: str
    size: int
    facts: Any


class Watching:
    """The watched models of one run. `submit` receives a record; `named` returns the name of a series."""

    def __init__(self, submit: Callable[[Record], None], named: Callable[[str], str], guard: Guard) -> None:
        self._submit, self._named, self._guard = submit, named, guard
        self._watches: list[_Watch] = []

    def begin(self, model: Any, what: str, every: int, name: str, step: Callable[[], int] | None) -> None:
        """Start watching a model; this ends an earlier watch of the same model.

        Raises ConfigurationError if an argument is invalid.
        """
        torch = sys.modules.get("torch")  # no module can exist without it
        if torch is None or not isinstance(model, torch.nn.Module):
            raise ConfigurationError(f"watch: model must be a torch.nn.Module, got {type(model).__name__}")
        if what not in _WATCHED:
            raise ConfigurationError(f"watch: log must be one of {', '.join(map(repr, _WATCHED))}, got {what!r}")
        count = attempted(lambda: operator.index(every), lambda: 0)
        if isinstance(every, bool) or count < 1:
            raise ConfigurationError(f"watch: log_freq must be a number of backward passes, 1 or more, got {every!r}")
        self.end(model)
        watch = _Watch(torch, model, what, count, name, step, self._submit, self._named, self._guard)
        shared_tags = {tag for other in self._watches for tag in other.tags()} & watch.tags()
        self._watches.append(watch)
        if shared_tags:
            self._guard.log_once(
                "watched together",
                "tracelet: two watched models share the series of parameter %r. Separate them with "
                "watch(model, name=...)",
                min(shared_tags),
            )
        if not watch.hooks:
            self._guard.log_once(
                f"nothing to watch {type(model).__name__}",
                "tracelet: no parameter of the %s requires a gradient yet, so nothing is logged. Call watch after its "
                "parameters are trainable (and, if it is lazy, after its first forward pass)",
                type(model).__name__,
            )
        if _is_fully_sharded(model):
            self._guard.log_once(
                f"fully sharded {type(model).__name__}",
                "tracelet: the %s is sharded by FSDP, which trains its own tensors instead of the parameters: watch "
                "logs few of its backward passes, or none",
                type(model).__name__,
            )

    def end(self, model: Any = None) -> None:
        """Stop watching one model, or all models."""
        for watch in list(self._watches):
            watched = watch.model()
            if model is None or watched is None or watched is model:
                watch.end()
                self._watches.remove(watch)


class _Hook:
    """The hook of one parameter. If a pass is not logged, it only detects the start of a new pass."""

    __slots__ = ("name", "seen", "watch")

    __torch_unserializable__ = True  # otherwise torch warns when the tensor is saved

    def __init__(self, watch: _Watch, name: str) -> None:
        self.watch, self.name = watch, name
        self.seen = 0
        """The number of the last pass that called this hook."""

    def __call__(self, gradient: Any) -> None:
        watch = self.watch
        # The same parameter again: the previous pass was aborted, and its end callback never ran.
        if not watch.in_pass or self.seen == watch.passes:
            watch.guard.call(watch.begin_pass, self.seen)
        self.seen = watch.passes
        if watch.measures:
            watch.guard.call(watch.measure, self.name, gradient)


class _Watch:
    """The watch of one model, held by a weak reference. Devices call the hooks on their own threads."""

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
        """True if the gradients of the current pass are measured."""
        self._due = False
        self._samples: list[_Sample] = []
        self._begin_lock = forks.new_lock()
        self.hooks: dict[int, Any] = {}
        """The handle that removes a parameter's hook, by the parameter's `id`.

        It keeps no weak reference to the tensor: torch cannot swap a tensor that has one, and `Module.to` and
        `load_state_dict` would fail."""
        self._add_hooks(model)

    def tags(self) -> set[str]:
        """Return the names of its series, without the prefix `gradients/` or `parameters/`."""
        model = self.model()
        return set() if model is None else {self._prefix + name for name, _ in named_parameters(self._torch, model)}

    def end(self) -> None:
        self.measures = self._due = False
        while self.hooks:
            self.hooks.popitem()[1].remove()
        self._samples.clear()

    def _add_hooks(self, model: Any) -> None:
        """Add a hook to each parameter without one: parameters may be unfrozen or replaced at any time."""
        is_lazy = self._torch.nn.parameter.is_lazy
        for name, parameter in named_parameters(self._torch, model):
            known = self.hooks.get(id(parameter))
            is_hooked = known is not None and known.id in (parameter._backward_hooks or ())  # the id may be reused
            if parameter.requires_grad and not is_lazy(parameter) and not is_hooked:
                if parameter._backward_hooks == {}:  # left by removed hooks: after a swap torch would call none
                    parameter._backward_hooks = None
                self.hooks[id(parameter)] = parameter.register_hook(_Hook(self, name))

    # On the threads of autograd.

    def begin_pass(self, seen: int) -> None:
        with self._begin_lock:
            if self.in_pass and seen != self.passes:
                return  # a hook on another device's thread was first
            self._samples.clear()
            self._due = self.hooks != {} and self.passes % self._every == 0
            self.measures = self._due and self._gradients
            self.passes += 1
            self.in_pass = True
        end = functools.partial(self.guard.call, self.end_pass)
        self._torch.autograd.Variable._execution_engine.queue_callback(end)

    def measure(self, name: str, gradient: Any) -> None:
        """Measure a gradient on its device; the result stays there until the end of the pass."""
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
        samples, self._samples = self._samples, []
        step = self.passes - 1 if self._step is None else snapshot.cut_step(self._step())
        for record in _records(self._torch, samples, step):
            self._submit(_renamed(record, self._named))
        self._add_hooks(model)

    def _measure(self, tag: str, tensor: Any) -> None:
        with self._torch.no_grad():
            values = _flat(self._torch, tensor.detach())
            if values.numel() and not values.is_meta:  # a meta tensor has no values
                self._samples.append(_Sample(tag, values.numel(), statistics(self._torch, values)))


def named_parameters(torch: Any, model: Any) -> Iterator[tuple[str, Any]]:
    """Yield each parameter of a model once, with its name inside any torch wrappers."""
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
    fsdp = sys.modules.get("torch.distributed.fsdp")  # nothing is sharded if it is not imported
    kinds = tuple(getattr(fsdp, name) for name in ("FSDPModule", "FullyShardedDataParallel") if hasattr(fsdp, name))
    return any(isinstance(module, kinds) for module in model.modules())


def statistics(torch: Any, values: Any) -> Any:
    """Return the facts and bucket counts of values as one tensor on their device, without synchronizing.

    The facts: minimum and maximum of the finite values, their count, the NaN count, sum and sum of squares of the
    finite values.
    """
    wide = torch.float32 if values.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    ends, sums = [], []
    for part in values.split(_CHUNK):
        part = part.to(wide)
        finite = part.isfinite()
        non_finite = ~finite
        finite_values = part.masked_fill(non_finite, 0.0)
        lowest, highest = part.masked_fill(non_finite, math.inf).amin(), part.masked_fill(non_finite, -math.inf).amax()
        ends.append(torch.stack([lowest, -highest]))
        counts = finite.sum(dtype=wide), part.isnan().sum(dtype=wide)
        sums.append(torch.stack([*counts, finite_values.sum(), finite_values.square().sum()]))
    low, negative_high = torch.stack(ends).amin(dim=0)
    buckets = torch.zeros(_BUCKETS + 1, dtype=wide, device=values.device)
    for part in values.split(_CHUNK):
        indices = _bucket_indices(torch, part.to(wide), low, -negative_high)
        buckets.scatter_add_(0, indices, torch.ones_like(indices, dtype=wide))
    return torch.cat([torch.stack([low, -negative_high]), torch.stack(sums).sum(dim=0), buckets[:_BUCKETS]])


def _bucket_indices(torch: Any, part: Any, low: Any, high: Any) -> Any:
    """Return the bucket of each value; non-finite values get one beyond the last."""
    half = high / 2 - low / 2  # halves: the full range may exceed the largest float
    scaled = (part / 2 - low / 2) / torch.where(half > 0, half, torch.ones_like(half)) * _BUCKETS
    return scaled.nan_to_num(0.0).clamp(0, _BUCKETS - 1).to(torch.int64).masked_fill(~part.isfinite(), _BUCKETS)


def _flat(torch: Any, tensor: Any) -> Any:
    """Flatten the values: local ones if the tensor is sharded, stored ones if sparse, both parts if complex."""
    if hasattr(tensor, "to_local"):  # a DTensor would start a collective, and other processes may not join
        tensor = tensor.to_local()
    if tensor.layout != torch.strided:
        tensor = tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor.values()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    # In memory order, to avoid copying channels-last weights; the order does not matter here.
    return tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True)).reshape(-1)


def _records(torch: Any, samples: list[_Sample], step: int | None) -> Iterator[Histogram | Scalar]:
    """Yield the records of all measurements, with one copy per device."""
    now = time.time()
    for device in dict.fromkeys(sample.facts.device for sample in samples):
        on_device = [sample for sample in samples if sample.facts.device == device]
        for sample, row in zip(on_device, torch.stack([sample.facts for sample in on_device]).tolist(), strict=True):
            yield from _to_records(sample, row, step, now)


def _to_records(sample: _Sample, row: list[float], step: int | None, now: float) -> Iterator[Histogram | Scalar]:
    low, high, count, nan, total, squares = row[:_FACTS]
    if count:
        edges, counts = _buckets(low, high, row[_FACTS:])
        yield Histogram(sample.tag, edges, counts, low, high, count, total, squares, step, now)
    for suffix, number in (("nan", nan), ("inf", sample.size - count - nan)):
        if number:
            yield Scalar(f"{sample.tag}/{suffix}", number, step, now)


def _buckets(low: float, high: float, counts: list[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return right edges and counts from the minimum to the maximum; one bucket if all values are equal.

    The first bucket is empty: its edge is the left edge of the next one.
    """
    if low == high:
        margin = max(0.5, abs(low) * 1e-9)
        edges = max(low - margin, -sys.float_info.max), min(low + margin, sys.float_info.max)
        return edges, (0.0, sum(counts))
    width = high / _BUCKETS - low / _BUCKETS
    return (*(low + width * index for index in range(_BUCKETS)), high), (0.0, *counts)


def _renamed(record: Histogram | Scalar, named: Callable[[str], str]) -> Histogram | Scalar:
    return msgspec.structs.replace(record, tag=named(record.tag))
