"""A small but real training: steps per second with nothing logged, by TensorBoard alone, and by whatever carries it on.

`python -m benchmarks.training ROW STEPS FOLDER` trains in one process and prints the figures as JSON. A step is a
batch of a small network on one core; it logs its loss, and every hundredth the network's twenty parameters as
histograms and one picture.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import turns
from benchmarks.captures import CAPTURES, NAMES
from benchmarks.readback import held
from benchmarks.runs import BACKENDS, Way, begin, settle

NAME, REPEATS, PEER_TURNS = "A training", 7, 3
STEPS, BARE, EVERY = 600, 200, 100
LAYERS, WIDTH, BATCH = 10, 256, 32

NOTHING, ALONE = "no logging", "TensorBoard alone"
WAYS = {
    "tracelet, journal only": Way(),
    **{f"tracelet, {name}": Way(name) for name in BACKENDS},
    **{f"tracelet, {name}, process": Way(name, "process") for name in BACKENDS},
}
PEERS = {NAMES[vendor]: vendor for vendor in CAPTURES if vendor != "aim"}  # Aim's took nothing of such a run
COLUMNS = {
    "steps_s": "steps/s",
    "kept": "to no logging",
    "ratio": "to TensorBoard alone",
    "stall_ms": "longest step ms",
    "start_s": "start s",
    "finish_s": "to the end of stop s",
    "submitted": "submitted",
    "read_back": "read back",
}
EXPLANATION = """\
{:,} steps of a network of {} layers of {} on one core: its loss at each step, its {} parameters as histograms and one
picture of 3x256x256 at every {}th. Only the loop is timed for steps/s; *start* and *to the end of stop*, the writer's
closing included, are beside it. {} steps without logging before the start and as many after the stop, in the same
process, tell the machine's speed at that moment: *to no logging* is the row's speed to theirs, and *to TensorBoard
alone* compares these of one turn. Submitted and read back are scalars + histograms + images; a store that takes no
other kind says so by its zeros. Peers took part in the first {} turns. With *clearml*, ClearML searches the program's
Git repository for imports meanwhile, here 460 files; outside a repository, two runs had 1.17 and 1.05 of TensorBoard
alone."""

Stop = Callable[[], Any]


class Network(NamedTuple):
    """A network, and one step of its training, which gives the loss."""

    module: Any
    step: Callable[[], Any]


def take(repeats: int, *, long: bool) -> dict[str, Any]:
    steps = STEPS * 5 if long else STEPS
    peers = [name for name, vendor in PEERS.items() if importlib.util.find_spec(vendor)]
    # Some peers take minutes to end, and differ by more than the machine's speed drifts.
    found = _take([NOTHING, ALONE, *WAYS, *peers], range(min(repeats, PEER_TURNS)), steps)
    for row, more in _take([NOTHING, ALONE, *WAYS], range(PEER_TURNS, repeats), steps).items():
        found[row] += more
    _compare(found)
    return {"steps": steps, "rows": found, "missing": [name for name in PEERS if name not in peers]}


def _take(rows: list[str], numbers: range, steps: int) -> turns.Found:
    found = turns.in_turns(rows, len(numbers), lambda row: turns.measure("benchmarks.training", row, steps))
    for figures in (one for several in found.values() for one in several):
        figures["turn"] += numbers.start
    return found


def _compare(found: turns.Found) -> None:
    alone = {figures["turn"]: figures["kept"] for figures in found[ALONE]}
    for figures in (one for several in found.values() for one in several):
        if figures["turn"] in alone:
            figures["ratio"] = figures["kept"] / alone[figures["turn"]]


def render(found: dict[str, Any]) -> list[str]:
    told = EXPLANATION.format(found["steps"], LAYERS, WIDTH, 2 * LAYERS, EVERY, BARE, PEER_TURNS).splitlines()
    if found["missing"]:
        told.append(f"Not installed here: {', '.join(found['missing'])}.")
    return [*told, "", *turns.table(found["rows"], COLUMNS)]


def main(row: str, steps: int, folder: Path) -> None:
    settle(folder)
    network = build()
    train(network, None, BARE // 10)
    before = _speed(train(network, None, BARE))
    from torch.utils.tensorboard import SummaryWriter

    with contextlib.redirect_stdout(sys.stderr):  # what the SDKs print is not the figures
        began = time.perf_counter()
        stop, store = start(row, folder)
        started = time.perf_counter()
        writer = None if row == NOTHING else SummaryWriter(folder / "events")
        ticks = train(network, writer, steps)
        looped = time.perf_counter()
        if writer is not None:
            writer.close()
        stop()
        ended = time.perf_counter()
    after = _speed(train(network, None, BARE))
    speed = _speed(ticks)
    figures: turns.Figures = {
        "steps_s": speed,
        "kept": speed * (1 / before + 1 / after) / 2,
        "stall_ms": max(after - before for before, after in itertools.pairwise(ticks)) * 1e3,
        "start_s": started - began,
        "finish_s": ended - looped,
    }
    if store:
        portions = -(-steps // EVERY)
        figures |= {"submitted": _told([steps, 2 * LAYERS * portions, portions])}
        figures |= {"read_back": _told(held(store, folder).values())}
    print(json.dumps(figures))


def _speed(ticks: list[float]) -> float:
    return (len(ticks) - 1) / (ticks[-1] - ticks[0])


def _told(counts: Any) -> str:
    return " + ".join(f"{count:,}" for count in counts)


def start(row: str, folder: Path) -> tuple[Stop, str]:
    """Begin what the row measures; gives what ends it, and the store that holds it."""
    if row in WAYS:
        return begin(WAYS[row], folder).stop, WAYS[row].store
    if row in PEERS:
        return CAPTURES[PEERS[row]](folder), PEERS[row]
    return lambda: None, "events" if row == ALONE else ""


def build() -> Network:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers: list[Any] = []
    for _ in range(LAYERS - 1):
        layers += [torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    inputs, targets = torch.randn(BATCH, WIDTH), torch.randint(0, 10, (BATCH,))
    measure = torch.nn.CrossEntropyLoss()

    def step() -> Any:
        optimizer.zero_grad()
        loss = measure(network(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss

    return Network(network, step)


def train(network: Network, writer: Any, steps: int) -> list[float]:
    """When each step began, in seconds, and when the last ended."""
    import torch

    picture = torch.rand(3, 256, 256)
    ticks = [time.perf_counter()]
    for step in range(steps):
        loss = network.step()
        if writer is not None:
            log(writer, network, loss, picture, step)
        ticks.append(time.perf_counter())
    return ticks


def log(writer: Any, network: Network, loss: Any, picture: Any, step: int) -> None:
    writer.add_scalar("loss", loss.item(), step)
    if step % EVERY == 0:
        for name, parameter in network.module.named_parameters():
            writer.add_histogram(f"weights/{name}", parameter, step)
        writer.add_image("picture", picture, step)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
