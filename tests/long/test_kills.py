"""Kill a run at random moments, on every backend in turn, and online. Only `make test-long` runs these tests."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import mlflow_store
from backends.mlflow_server import Server, running
from backends.store_content import StoreContent
from backends.stores import READERS
from backends.wandb_server import WandbServer, content
from killing import LONGEST, kill

MOMENTS = int(os.environ.get("MOMENTS", "50"))
"""The number of kills; `MOMENTS=250` makes fifty for each backend."""


@pytest.mark.parametrize("number", range(MOMENTS))
def test_a_killed_run_is_delivered_whole(number: int, tmp_path: Path) -> None:
    """Records that were logged 100 ms before a kill at a random moment are in the backend."""
    backend = list(READERS)[number % len(READERS)]
    chance = random.Random()
    moment, alone = chance.uniform(0, LONGEST), chance.random() < 0.5
    print(f"{backend}, killed after {moment:.3f} s, {'alone' if alone else 'with its children'}")
    killed = kill(tmp_path, backend, moment, alone=alone)
    killed.sync()
    killed.assert_complete()


@pytest.mark.parametrize("number", range(20))
def test_a_killed_online_run_has_each_row_once(number: int, tmp_path: Path) -> None:
    """The server has rows that wandb had not written to its file; they are not sent again."""
    server, chance = WandbServer().start(), random.Random()
    often = {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "0.1"}
    moment, alone = chance.uniform(0.5, LONGEST), chance.random() < 0.25
    print(f"killed after {moment:.3f} s, {'alone' if alone else 'with its children'}")
    try:
        killed = kill(
            tmp_path,
            "wandb",
            moment,
            alone=alone,
            read=lambda folder: content(server),
            **{**server.environment(), **often},
        )
        killed.sync()
        killed.assert_complete()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.mark.parametrize("number", range(20))
def test_a_killed_run_is_whole_on_an_mlflow_server(number: int, mlflow_server: Server, tmp_path: Path) -> None:
    """A request may be under way at the kill: it arrives or not, and its records are there once."""

    def read(folder: Path) -> StoreContent:
        (journal,) = folder.glob("runs/*/*/journal.db")
        runs = mlflow_store.runs(mlflow_server.database, mlflow_server.artifacts)
        (run,) = [run for run in runs if run.tags["tracelet.run_id"] == journal.parent.name]
        return mlflow_store.to_content(run)

    chance = random.Random()
    moment, alone = chance.uniform(0, LONGEST), chance.random() < 0.25
    print(f"killed after {moment:.3f} s, {'alone' if alone else 'with its children'}")
    killed = kill(tmp_path, "mlflow", moment, alone=alone, read=read, MLFLOW_TRACKING_URI=mlflow_server.url)
    killed.sync()
    killed.assert_complete()
