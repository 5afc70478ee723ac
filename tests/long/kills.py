"""Fifty moments of a kill, by turns over the backends; `make test-long` runs them, `make test` does not."""

import os
import random

import pytest
from backends.stores import READERS
from killing import LONGEST, kill

MOMENTS = int(os.environ.get("MOMENTS", "50"))
"""How many moments; `MOMENTS=250` plays fifty for each backend."""


@pytest.mark.parametrize("number", range(MOMENTS))
def test_a_killed_run_is_delivered_whole(number, tmp_path):
    """At a moment that nobody chose: what was said 100 ms before is in the backend."""
    backend = list(READERS)[number % len(READERS)]
    chance = random.Random()
    moment, alone = chance.uniform(0, LONGEST), chance.random() < 0.5
    print(f"{backend}, killed after {moment:.3f} s, {'alone' if alone else 'with its children'}")
    killed = kill(tmp_path, backend, moment, alone=alone)
    killed.sync()
    killed.assert_complete()
