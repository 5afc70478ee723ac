"""watch: histograms of gradients and parameters, of one backward pass in so many, and nothing else in the training."""

from __future__ import annotations

import copy
import gc
import io
import math
import random
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import tracelet
from tracelet.records import Histogram, Scalar
from tracelet.testing import MemoryBackend


def net(*, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def backward(model, *, seed=0, shape=(5, 4)):
    generator = torch.Generator().manual_seed(seed)
    model(torch.randn(shape, generator=generator)).square().sum().backward()


def told(records):
    """(name, step) of every histogram."""
    return [(one.tag, one.step) for one in records if isinstance(one, Histogram)]


def by_name(records):
    return {one.tag: one for one in records}


def alone(**values):
    """A module with these parameters, whose sum is the loss."""
    model = nn.Module()
    for name, value in values.items():
        model.register_parameter(name, value if isinstance(value, nn.Parameter) else nn.Parameter(value))
    return model


def give(parameter, gradient):
    """A backward pass in which a parameter gets this gradient."""
    parameter.backward(gradient)


def hooks_of(model):
    return [hook for one in model.parameters() for hook in (one._backward_hooks or {}).values()]


# What is logged.

NAMES = ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_gradients_of_one_pass_in_so_many(experiment, records):
    """The first pass, then each third; a series for each parameter, by wandb's names."""
    model = net()
    experiment.watch(model, log_freq=np.int64(3))
    for seed in range(7):
        backward(model, seed=seed)
    assert {(f"gradients/{name}", step) for name in NAMES for step in (0, 3, 6)} == set(told(records()))
    assert 12 == len(records())


@pytest.mark.parametrize(
    ("log", "words"),
    [("gradients", ["gradients"]), ("parameters", ["parameters"]), ("all", ["gradients", "parameters"])],
)
def test_what_is_asked_for(log, words, experiment, records):
    model = net()
    experiment.watch(model, log=log, log_freq=1)
    backward(model)
    assert {f"{word}/{name}" for word in words for name in NAMES} == {tag for tag, _ in told(records())}


def test_a_histogram_is_that_of_the_values(experiment, records):
    """Buckets as numpy's of the same range, and the figures of all values, for gradient and parameter."""
    model = net()
    experiment.watch(model, log="all", log_freq=1)
    backward(model)
    found = by_name(records())
    for name, parameter in model.named_parameters():
        for word, tensor in (("gradients", parameter.grad), ("parameters", parameter.detach())):
            record, values = found[f"{word}/{name}"], tensor.double().numpy().reshape(-1)
            counts, edges = np.histogram(values, bins=64)
            assert (0.0, *map(float, counts)) == record.counts
            assert edges == pytest.approx(record.limits)
            assert (values.min(), values.max(), values.size) == (record.minimum, record.maximum, record.count)
            assert (values.sum(), values @ values) == pytest.approx((record.total, record.sum_squares))


def test_a_large_tensor_is_looked_at_in_pieces(experiment, records):
    """More than a million values: nothing is counted twice, and none is left out."""
    generator = torch.Generator().manual_seed(3)
    gradient = torch.randn(3_000_000, generator=generator)
    model = alone(weight=torch.zeros(3_000_000))
    experiment.watch(model)
    give(model.weight, gradient)
    (record,) = records()
    counts, _ = np.histogram(gradient.double().numpy(), bins=64)
    assert (0.0, *map(float, counts)) == record.counts
    assert (gradient.min().item(), gradient.max().item(), 3e6) == (record.minimum, record.maximum, record.count)


def test_a_name_tells_models_apart(experiment, records, caplog):
    """A generator and its critic, each in series of its own; without names that is said."""
    one, two, three = net(), net(seed=1), net(seed=2)
    experiment.watch(one, name="generator")
    experiment.watch(two, name="critic")
    assert "share" not in caplog.text
    backward(one)
    backward(two)
    assert {f"gradients/{name}/{part}" for name in ("generator", "critic") for part in NAMES} == {
        tag for tag, _ in told(records())
    }
    experiment.watch(three, name="critic")
    assert "critic/0.bias" in caplog.text


def test_a_step_of_the_programs_own(experiment, records):
    """Asked once for each pass that is logged."""
    model, asked = alone(weight=torch.ones(2)), []

    def step():
        asked.append(1)
        return torch.tensor(1000 + len(asked))

    experiment.watch(model, log="all", log_freq=2, step=step)
    for _ in range(3):
        give(model.weight, torch.ones(2))
    assert [1001, 1001, 1002, 1002] == [one.step for one in records()]


# What is no ordinary tensor.


def test_nan_and_the_infinities_are_counted_beside(experiment, records):
    """The buckets hold what is finite; where there is nothing odd, no count is said."""
    model = alone(weight=torch.ones(6))
    experiment.watch(model, log_freq=1)
    give(model.weight, torch.tensor([1.0, math.nan, math.inf, -math.inf, 3.0, math.nan]))
    give(model.weight, torch.full((6,), math.nan))
    give(model.weight, torch.ones(6))
    found = records()
    assert [
        ("gradients/weight", 0),
        ("gradients/weight/nan", 0),
        ("gradients/weight/inf", 0),
        ("gradients/weight/nan", 1),
        ("gradients/weight", 2),
    ] == [(one.tag, one.step) for one in found]
    assert [2.0, 2.0, 6.0] == [one.value for one in found if isinstance(one, Scalar)]
    assert (1.0, 3.0, 2.0, 4.0, 2.0) == (
        found[0].minimum,
        found[0].maximum,
        found[0].count,
        found[0].total,
        sum(found[0].counts),
    )


@pytest.mark.parametrize(
    "values",
    [[0.0] * 5, [2.5] * 5, [1e38, -3e38, 3e38], [1e-45, 0.0], [-1e-30, 1e30, 1.0], [7.0]],
    ids=repr,
)
def test_ranges_that_are_hard(values, experiment, records):
    """All the same, all of a float's range, hardly any: each value is in one bucket, and the edges ascend."""
    gradient = torch.tensor(values)
    model = alone(weight=torch.ones(len(values)))
    experiment.watch(model)
    give(model.weight, gradient)
    (record,) = records()
    assert float(len(values)) == sum(record.counts) == record.count
    assert (gradient.min().item(), gradient.max().item()) == (record.minimum, record.maximum)
    assert all(math.isfinite(edge) for edge in record.limits)
    assert sorted(record.limits) == list(record.limits)
    assert record.limits[0] <= record.minimum <= record.maximum <= record.limits[-1]


def test_one_number_is_a_parameter_too(experiment, records):
    model = alone(scale=torch.tensor(2.0))
    experiment.watch(model, log="all")
    (model.scale * 3).backward()
    assert [(3.0, 1.0), (2.0, 1.0)] == [(one.total, one.count) for one in records()]


def test_all_of_a_float64s_range(experiment, records):
    model = alone(weight=torch.ones(3, dtype=torch.float64))
    experiment.watch(model)
    give(model.weight, torch.tensor([-1.7e308, 0.0, 1.7e308], dtype=torch.float64))
    (record,) = records()
    assert (3.0, 1.0, 1.0) == (sum(record.counts), record.counts[1], record.counts[-1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_there_is(dtype, experiment, records):
    model = alone(weight=torch.ones(3, dtype=dtype))
    experiment.watch(model, log="all")
    give(model.weight, torch.tensor([0.5, 1.0, 1.5], dtype=dtype))
    gradient, parameter = records()
    assert ((0.5, 1.5, 3.0), (1.0, 1.0, 3.0)) == (
        (gradient.minimum, gradient.maximum, gradient.total),
        (parameter.minimum, parameter.maximum, parameter.total),
    )


@pytest.mark.parametrize("layout", ["channels last", "transposed", "every other", "expanded"])
def test_every_layout_in_memory(layout, experiment, records):
    values = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4)
    gradient = {
        "channels last": values.contiguous(memory_format=torch.channels_last),
        "transposed": values.transpose(1, 2),
        "every other": values[:, :, ::2],
        "expanded": values[:, :, :1].expand(2, 3, 5, 4),
    }[layout]
    model = alone(weight=torch.ones(gradient.shape))
    experiment.watch(model)
    give(model.weight, gradient)
    (record,) = records()
    counts, _ = np.histogram(gradient.numpy(), bins=64)
    assert (0.0, *map(float, counts)) == record.counts


def test_complex_numbers_are_both_their_parts(experiment, records):
    model = alone(weight=torch.ones(2, dtype=torch.complex64))
    experiment.watch(model)
    give(model.weight, torch.tensor([1 + 2j, 3 + 4j]))
    (record,) = records()
    assert (4.0, 10.0, 1.0, 4.0) == (record.count, record.total, record.minimum, record.maximum)


def test_a_sparse_gradient_is_what_it_stores(experiment, records):
    """An embedding's: the rows that were looked up, each once."""
    model = nn.Embedding(100, 4, sparse=True)
    experiment.watch(model)
    model(torch.tensor([3, 7, 3])).sum().backward()
    (record,) = records()
    assert (8.0, 12.0, 1.0, 2.0) == (record.count, record.total, record.minimum, record.maximum)
    assert model.weight.grad.is_sparse


def test_an_empty_parameter_has_no_histogram(experiment, records):
    model = alone(weight=torch.ones(2), nothing=torch.ones(0))
    experiment.watch(model, log="all")
    (model.weight.sum() + model.nothing.sum()).backward()
    assert ["gradients/weight", "parameters/weight"] == [one.tag for one in records()]


def test_a_parameter_without_values_is_left_out(experiment, records):
    """On torch's meta device; what else is watched is logged."""
    model = alone(weight=torch.ones(2), later=torch.ones(2, device="meta"))
    experiment.watch(model, log="all")
    give(model.weight, torch.ones(2))
    assert ["gradients/weight", "parameters/weight"] == [one.tag for one in records()]


def test_a_frozen_parameter_has_values_alone_until_it_is_thawed(experiment, records):
    """Looked at again in each pass that is logged."""
    model = net()
    model[0].requires_grad_(False)
    experiment.watch(model, log="all", log_freq=1)
    backward(model)
    assert {f"parameters/{name}" for name in NAMES} | {"gradients/2.weight", "gradients/2.bias"} == {
        tag for tag, _ in told(records())
    }
    model[0].requires_grad_(True)
    backward(model)
    backward(model)
    assert {"gradients/0.weight", "gradients/0.bias"} <= {tag for tag, step in told(records()) if step == 2}


def test_a_new_head_is_watched_too(experiment, records):
    """A parameter that is replaced, from the next pass that is logged."""
    model = net()
    experiment.watch(model, log_freq=1)
    backward(model)
    model[2] = nn.Linear(8, 3)
    backward(model)
    backward(model)
    assert [0, 2] == [step for tag, step in told(records()) if tag == "gradients/2.weight"]


def test_a_shared_parameter_is_one(experiment, records):
    """By the first of its names; its gradient is the whole one, also where it is used twice."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    experiment.watch(model, log="all", log_freq=1)
    for _ in range(2):
        model.zero_grad()
        backward(model, shape=(2, 3))
    found = records()
    assert [("gradients/0.weight", 0), ("parameters/0.weight", 0)] == told(found)[:2]
    assert 4 == len(found)
    assert model[0].weight.grad.max().item() == found[2].maximum


def test_a_lazy_module_is_watched_once_it_has_run(experiment, records, caplog):
    model = nn.LazyLinear(2)
    experiment.watch(model)
    assert "no parameter of the LazyLinear" in caplog.text
    backward(model)
    experiment.watch(model)
    backward(model)
    assert [("gradients/weight", 0), ("gradients/bias", 0)] == sorted(told(records()), reverse=True)


# Ways to train.


def test_gradients_are_those_of_the_pass(experiment, records):
    """Accumulated over three passes, each is told by itself."""
    model = alone(weight=torch.ones(1))
    experiment.watch(model, log_freq=1)
    for value in (1.0, 10.0, 100.0):
        give(model.weight, torch.tensor([value]))
    assert [1.0, 10.0, 100.0] == [one.total for one in records()]
    assert 111.0 == model.weight.grad.item()


def test_an_evaluation_is_no_pass(experiment, records):
    model = net()
    experiment.watch(model, log="all", log_freq=1)
    with torch.no_grad():
        model(torch.ones(1, 4))
    with torch.inference_mode():
        model(torch.ones(1, 4))
    assert [] == records()


def test_a_pass_that_breaks_off_is_one(experiment, records):
    """An exception in the middle of it; the next pass is the next number, and logged whole."""
    model = net()
    experiment.watch(model, log_freq=1)

    def fail(gradient):
        raise ValueError("the program's own")

    handle = model[0].weight.register_hook(fail)
    with pytest.raises(ValueError, match="own"):
        backward(model)
    handle.remove()
    backward(model)
    assert {1} == {step for _, step in told(records())}
    assert set(NAMES) == {tag.removeprefix("gradients/") for tag, _ in told(records())}


def test_gradients_of_gradients(experiment, records):
    """`create_graph=True`: what we do is no part of the graph, and the second pass is one."""
    model = alone(weight=torch.full((2,), 3.0))
    experiment.watch(model, log_freq=1)
    (gradient,) = torch.autograd.grad((model.weight**3).sum(), model.weight, create_graph=True)
    gradient.sum().backward()
    assert [(0, 54.0), (1, 36.0)] == [(one.step, one.total) for one in records()]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_segments(reentrant, experiment, records):
    """One pass, where something outside of them is trained as well."""
    from torch.utils.checkpoint import checkpoint

    body, head = net(), nn.Linear(2, 1)
    model = nn.ModuleList([body, head])
    experiment.watch(model, log_freq=1)
    for _ in range(2):
        inside = checkpoint(body, torch.ones(3, 4, requires_grad=True), use_reentrant=reentrant)
        head(inside).sum().backward()
    assert {(f"gradients/{at}", step) for at in ("0.0.weight", "1.bias") for step in (0, 1)} <= set(told(records()))
    assert {0, 1} == {step for _, step in told(records())}


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "compiled inside": lambda model: nn.Sequential(
        torch.compile(model[0], backend="eager"), model[1], torch.compile(model[2], backend="eager")
    ),
    "compiled DataParallel": lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.filterwarnings("ignore")
def test_a_wrapper_changes_no_name(wrapper, experiment, records):
    """Whether a model is compiled, or spread over devices, its series are the same."""
    model = WRAPPERS[wrapper](net())
    experiment.watch(model, log="all", log_freq=1)
    backward(model)
    backward(model)
    expected = {(f"{word}/{name}", step) for word in ("gradients", "parameters") for name in NAMES for step in (0, 1)}
    assert expected == set(told(records()))


def test_a_distributed_model(experiment, records, tmp_path):
    """One process of one, over gloo: names without `module.`, gradients of this process."""
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(net())
        experiment.watch(model, log_freq=1)
        for seed in range(2):
            backward(model, seed=seed)
        assert {(f"gradients/{name}", step) for name in NAMES for step in (0, 1)} == set(told(records()))
    finally:
        distributed.destroy_process_group()


@pytest.fixture
def one_process(tmp_path):
    """A group of one process, over gloo."""
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield distributed
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_a_sharded_tensor_is_this_processs_part(one_process, experiment, records):
    """Spread by the program itself, as for tensor parallelism: its gradients are."""
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    mesh = init_device_mesh("cpu", (1,))
    model = alone(weight=nn.Parameter(distribute_tensor(torch.arange(3.0), mesh, [Shard(0)])))
    experiment.watch(model, log="all")
    model.weight.square().sum().backward()
    assert [("gradients/weight", 6.0), ("parameters/weight", 3.0)] == [(one.tag, one.total) for one in records()]
    model.double()
    assert 1 == len(hooks_of(model))


@pytest.mark.filterwarnings("ignore")
def test_a_fully_sharded_model_is_spoken_of(one_process, experiment, caplog):
    """FSDP trains tensors of its own: what is not logged is said."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import init_device_mesh

    model = net()
    experiment.watch(model)
    assert "FSDP" not in caplog.text
    fully_shard(model[0], mesh=init_device_mesh("cpu", (1,)))
    for _ in range(2):
        experiment.watch(model)
    assert 1 == caplog.text.count("the Sequential is sharded by FSDP")
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    backward(model)


# What the training notices: nothing.


def trained(model, passes=6):
    """What a training ends with, to the bit."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for seed in range(passes):
        optimizer.zero_grad()
        backward(model, seed=seed)
        optimizer.step()
    return [one.tolist() for one in (*model.parameters(), *(one.grad for one in model.parameters()))]


def test_a_training_ends_as_without(experiment):
    """Weights, gradients and all three generators, to the bit."""
    expected = trained(net())
    model = net()
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    experiment.watch(model, log="all", log_freq=1)
    assert expected == trained(model)
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


class Operations(TorchDispatchMode):
    """Every operation that torch carries out."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def operations(model):
    with Operations() as seen:
        backward(model)
    return seen.names


def test_a_pass_that_is_not_logged_does_nothing_more(experiment):
    """Not one operation, and so no wait for a device."""
    model, unwatched = net(), net()
    experiment.watch(model, log="all", log_freq=3)
    logged, *others = (operations(model) for _ in range(3))
    expected, *more = (operations(unwatched) for _ in range(3))
    assert more == others
    assert len(logged) > len(expected)
    assert expected.count("clone") == logged.count("clone"), "a gradient was copied"


def test_a_pass_that_is_logged_asks_the_device_for_nothing_on_its_way(experiment, monkeypatch):
    """No number is read before the end of the pass, and then in one copy."""
    reads = []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: reads.append(tensor.shape[0]) or original(tensor))
    model = net()
    experiment.watch(model, log="all", log_freq=1)
    names = operations(model)
    waits = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "unique", "histc", "bincount"}
    assert set() == waits & set(names)
    assert [8] == reads


def test_a_model_is_not_kept_alive(experiment):
    model = net()
    experiment.watch(model, log_freq=1)
    backward(model)
    gone = weakref.ref(model)
    parameter = weakref.ref(model[0].weight)
    del model
    gc.collect()
    assert (None, None) == (gone(), parameter())
    experiment.unwatch()


@pytest.mark.parametrize("change", ["to", "load_state_dict"])
def test_torch_may_swap_the_insides_of_a_parameter(change, experiment, records):
    """As it does with some tensors on their way to another device or number. It asks no hook from before afterwards,
    whosever it is; watched again, the model is."""
    model = net()
    experiment.watch(model, log_freq=1)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        if change == "to":
            model.double()
            model.float()
        else:
            model.load_state_dict(net(seed=1).state_dict())
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    experiment.watch(model, log_freq=1)
    for _ in range(2):
        backward(model)
    assert {(f"gradients/{name}", step) for name in NAMES for step in (0, 1)} == set(told(records()))
    assert 4 == len(hooks_of(model))
    experiment.unwatch(model)
    assert [] == hooks_of(model)


def test_a_watched_model_is_copied_and_saved_as_ever(experiment):
    """Hooks travel with no copy, pickle or state."""
    model = net()
    experiment.watch(model, log="all", log_freq=1)
    backward(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twin = copy.deepcopy(model)
        out = io.BytesIO()
        torch.save(model, out)
        torch.save(model.state_dict(), io.BytesIO())
        torch.save(model[0].weight, io.BytesIO())
    out.seek(0)
    read = torch.load(out, weights_only=False)
    assert ([], []) == (hooks_of(twin), hooks_of(read))
    assert 4 == len(hooks_of(model))


def test_nothing_of_ours_raises_into_a_pass(experiment, swallowed, records):
    """A step that cannot be told, twice: the training goes on, and it is counted."""
    model = net()

    def step():
        raise RuntimeError("no step")

    experiment.watch(model, log_freq=1, step=step)
    expected = net()
    for one in (model, expected):
        backward(one)
        backward(one)
    assert [one.grad.tolist() for one in expected.parameters()] == [one.grad.tolist() for one in model.parameters()]
    assert [RuntimeError, RuntimeError] == [type(error) for error in swallowed]
    assert {"error in _Watch.end_pass: RuntimeError": 2} == experiment.stats().causes
    swallowed.clear()
    assert [] == records()


def test_a_tensor_that_cannot_be_measured_takes_no_other_with_it(experiment, swallowed, records, monkeypatch):
    from tracelet.capture import watch as watching

    original = watching.statistics

    def fussy(torch, values):
        if values.shape == (8,):
            raise NotImplementedError("no such kernel")
        return original(torch, values)

    monkeypatch.setattr(watching, "statistics", fussy)
    model = net()
    experiment.watch(model, log="all", log_freq=1)
    backward(model)
    assert [NotImplementedError] * 2 == [type(error) for error in swallowed]
    swallowed.clear()
    assert 6 == len(told(records()))


# How it ends.


def test_unwatch_leaves_nothing_behind(experiment, records):
    one, two = net(), net(seed=1)
    experiment.watch(one, log_freq=1)
    experiment.watch(two, log_freq=1, name="two")
    experiment.unwatch(one)
    assert (0, 4) == (len(hooks_of(one)), len(hooks_of(two)))
    backward(one)
    assert [] == records()
    experiment.unwatch(one)
    experiment.unwatch()
    assert [] == hooks_of(two)


def test_the_end_of_the_run_ends_it(experiment, memory):
    model = net()
    experiment.watch(model, log_freq=1)
    experiment.stop()
    backward(model)
    assert ([], []) == (hooks_of(model), memory.records)
    experiment.watch(model, log_freq=1)
    assert [] == hooks_of(model)


def test_unwatch_in_the_middle_of_a_pass(experiment, records):
    """From a hook of the program's own."""
    model = net()
    experiment.watch(model, log_freq=1)
    model[2].weight.register_hook(lambda gradient: experiment.unwatch(model))
    backward(model)
    assert [] == told(records())
    assert 1 == len(hooks_of(model))


def test_a_model_that_is_watched_again_begins_anew(experiment, records):
    """A notebook's cell that is run twice."""
    model = net()
    experiment.watch(model, log_freq=1)
    backward(model)
    experiment.watch(model, log="parameters", log_freq=1)
    backward(model)
    assert 4 == len(hooks_of(model))
    assert [("gradients", 0)] * 4 + [("parameters", 0)] * 4 == [
        (tag.partition("/")[0], step) for tag, step in told(records())
    ]


def test_a_run_that_replaces_another_watches_by_itself(memory):
    """The next run logs nothing of what an earlier one watched, until it is asked to."""
    model, second = net(), MemoryBackend()
    tracelet.start_logging(backend=memory).watch(model, log_freq=1)
    experiment = tracelet.start_logging(backend=second)
    backward(model)
    experiment.stop()
    assert ([], [], []) == (hooks_of(model), memory.records, second.records)


def test_a_disabled_run_touches_no_model():
    model = net()
    experiment = tracelet.start_logging(mode="disabled")
    experiment.watch(model)
    experiment.unwatch(model)
    assert [] == hooks_of(model)


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        (5, {}, "torch.nn.Module, got int"),
        ([nn.Linear(1, 1)], {}, "torch.nn.Module, got list"),
        (nn.Linear(1, 1), {"log": "weights"}, "'gradients', 'parameters', 'all'"),
        (nn.Linear(1, 1), {"log_freq": 0}, "1 or more, got 0"),
        (nn.Linear(1, 1), {"log_freq": 1.5}, "1 or more, got 1.5"),
        (nn.Linear(1, 1), {"log_freq": True}, "1 or more, got True"),
    ],
)
def test_what_cannot_be_meant_is_refused(model, given, words, experiment):
    with pytest.raises(tracelet.ConfigurationError, match=words):
        experiment.watch(model, **given)


def test_histograms_of_a_training_are_in_the_journal_and_the_store(tmp_path):
    """The one way: also what waits, by sync."""
    from backends import csv_store

    from tracelet import sync

    experiment = tracelet.start_logging(backend="csv", mode="offline")
    model = net()
    experiment.watch(model, log="all", log_freq=2)
    trained(model, 4)
    experiment.stop()
    sync.deliver(experiment.folder)
    found = csv_store.stored(experiment.folder / "csv").histograms
    assert {(f"{word}/{name}", step) for word in ("gradients", "parameters") for name in NAMES for step in (0, 2)} == {
        (tag, step) for tag, step, _, _ in found
    }
