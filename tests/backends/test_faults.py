"""The fault matrix: whatever happens to a backend, the training goes on, and in the end the store is whole."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from backends.fault_places import ALL, PLACES, AimRemote, Clearml, CsvFull, Mlflow, Place
from backends.fault_proxy import fault_proxy
from backends.fault_story import SCALARS, run
from programs import started
from support import BUSY

import tracelet

CELLS = [(kind, cell) for kind in PLACES for cell in ALL if cell not in kind.void]
CLASSES = (("down at start", "down in mid-run", "down at stop"), ("hangs", "slow"), ("401", "429", "500"))
"""Faults of one class take the same way through a delivery: away, silent, refused."""


def everyday_cells() -> set[tuple[type[Place], str]]:
    """One cell for each backend and class of faults, by turns; the others are run by `make test-long`."""
    found = set()
    for number, kind in enumerate(PLACES):
        for faults in CLASSES:
            if cells := [cell for cell in faults if cell not in kind.void]:
                found.add((kind, cells[number % len(cells)]))
    return found


EVERYDAY = everyday_cells()
_LONGEST_CALL = 0.5


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[type[Place], Place]]:
    """Those that a test asked for; each lives until the end of the session."""
    made: dict[type[Place], Place] = {}
    yield made
    for place in made.values():
        place.close()


def _place(kind: type[Place], places: dict[type[Place], Place], tmp_path_factory: pytest.TempPathFactory) -> Place:
    if kind not in places:
        places[kind] = kind(tmp_path_factory.mktemp(kind.__name__))
    return places[kind]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds for an answer are kept for a test of their own."""
    monkeypatch.setattr("tracelet.backends.clearml.connection._ANSWER", 2.0)
    monkeypatch.setattr("tracelet.backends.aim.adapter._CALL_TIMEOUT", 3.0)


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        pytest.param(kind, cell, id=f"{kind.name}-{cell}", marks=() if (kind, cell) in EVERYDAY else pytest.mark.long)
        for kind, cell in CELLS
    ],
)
def test_nothing_is_lost(
    kind: type[Place],
    cell: str,
    places: dict[type[Place], Place],
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No call of the program waits, the fault is said with its reason, the store is complete, once and in order."""
    if kind is CsvFull and not CsvFull.can_mount():
        pytest.skip("a disk of its own needs root; test_csvfile.py fills one by a limit of the process")
    place = _place(kind, places, tmp_path_factory)
    monkeypatch.delenv("WANDB_MODE")
    with caplog.at_level(logging.INFO, "tracelet"):
        try:
            told = run(place, cell)
        finally:
            place.set("pass")

    assert told.start < 2 + 1.5
    assert told.longest < _LONGEST_CALL
    assert told.noticed
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    if cell in place.reported:
        assert any(place.backend in line and "records are stored" in line.lower() for line in said), said
    count = SCALARS
    if cell == "down at stop":
        count += 100
        assert told.stop < 2 + 2
        left = told.stats.backends[place.backend]
        assert left.pending >= 100 if place.lags else left.state == "waiting"
        assert any("tracelet sync" in line for line in said)
        assert told.synced is not None
        assert told.synced.complete, told.synced
    else:
        assert (0, 0) == (told.stats.backends[place.backend].pending, told.stats.backends[place.backend].rejected), said
    found = place.stored(told.folder)
    points = [(step, value, wall) for tag, step, value, wall in found.scalars or () if tag == "loss"]
    expected = [(step, step / 4, 1_700_000_000.25 + step) for step in range(count)]
    if not place.in_time:
        assert all(abs(one[2] - other[2]) <= 1 for one, other in zip(points, expected, strict=True))
        points, expected = ([one[:2] for one in side] for side in (points, expected))
    assert expected == (points if place.ordered else sorted(points))
    assert {"lr": 0.1} == found.params
    assert {("image", 100), ("image", 500), ("image", 900)} == set(found.images or ())


def test_every_void_cell_says_why() -> None:
    """What is not tested means nothing, for a reason that is told."""
    assert all(cell in ALL and reason for kind in PLACES for cell, reason in kind.void.items())


# -- the beginning


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a socket that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


def _config(backend: str, host: str, port: int) -> dict[str, Any]:
    if backend == "aim":
        return {"repo": f"aim://{host}:{port}"}
    url = f"http://{host}:{port}"
    if backend == "mlflow":
        return {"backend_url": url, "experiment_name": "none"}
    hosts = dict.fromkeys(("backend_url", "web_url", "files_url"), url)
    return {"mode": "online", "access_key": "K" * 20, "secret_key": "S" * 40, **hosts}


@pytest.mark.parametrize("trouble", ["no server", "silent", "wrong host name", "401"])
@pytest.mark.parametrize("backend", ["mlflow", "aim", "clearml"])
def test_the_start_of_a_run_is_in_time(
    backend: str, trouble: str, silent: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With every default as it is: within `connect_timeout`, with a sentence why, and that the run goes on."""
    monkeypatch.undo()  # the vendors' patience of ten seconds as well
    with fault_proxy(f"127.0.0.1:{silent}") as proxy:
        host, port = "127.0.0.1", silent
        match trouble:
            case "no server":
                proxy.set("refuse")
                port = proxy.port
            case "401":
                proxy.set("401")
                port = proxy.port
            case "wrong host name":
                host = "tracelet.invalid"
        began = time.monotonic()
        with caplog.at_level(logging.INFO, "tracelet"):
            experiment = tracelet.start_logging(backend=backend, config=_config(backend, host, port))
            took = time.monotonic() - began
            experiment.log_metric("loss", 1.0, 1)
            experiment.stop(timeout=0.5)

    assert took < 10 + BUSY
    assert any(
        backend in line and "records are stored" in line.lower()
        for line in (one.getMessage() for one in caplog.records)
    )
    assert 1 == experiment.stats().backends[backend].pending


# -- the end

PROGRAM = """
import json, sys, tracelet
run = tracelet.start_logging(backend=sys.argv[1], config=json.loads(sys.argv[2]), flush_timeout=2, connect_timeout=60)
run.log_metric("loss", 1.0, 1)
assert run.flush(30)
print("there", flush=True)
sys.stdin.readline()
for step in range(500):
    run.log_metric("loss", step / 4, step)
run.log_artifact(bytes(3_000_000), "model.bin")
"""


@pytest.mark.parametrize("mode", ["refuse", "hang"])
@pytest.mark.parametrize("kind", [Mlflow, AimRemote, Clearml], ids=lambda kind: kind.backend)
def test_a_program_ends_in_time(
    kind: type[Place], mode: str, places: dict[type[Place], Place], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At most `flush_timeout` and two seconds after its last line, the vendor's own exit hooks and uploads included."""
    place = _place(kind, places, tmp_path_factory)
    with started(PROGRAM, place.backend, json.dumps(place.config()), CLEARML_OFFLINE_MODE="") as program:
        try:
            assert program.stdout.readline(), program.stderr.read()
            place.set(mode)
            began = time.monotonic()
            _, said = program.communicate("\n", timeout=60)
            took = time.monotonic() - began
        finally:
            place.set("pass")

    assert took < 2 + 2 + BUSY, said
    assert 0 == program.returncode, said
    assert "tracelet sync" in said
