"""Kill a run at fifty random moments, on every backend in turn. Only `make test-long` runs these tests."""

import os
import random
from pathlib import Path

import pytest
from backends.stores import READERS
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
