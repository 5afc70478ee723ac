"""kill -9 at any moment: what was said 100 ms before is in the backend, once where the store knows itself."""

import random

import pytest
from backends.stores import READERS
from killing import LONGEST, kill


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("backend", list(READERS))
def test_a_killed_run_is_delivered_whole(backend, number, tmp_path):
    """In the middle of the loop, and near the end; a second sync finds nothing to do."""
    moment = random.Random(f"{backend} {number}").uniform(number * LONGEST / 2, (number + 1) * LONGEST / 2)
    killed = kill(tmp_path, backend, moment, alone=number == 1)
    killed.sync()
    killed.assert_complete()
    if number == 0:
        assert 0 == killed.sync()
        killed.assert_complete()
