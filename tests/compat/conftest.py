"""A tracker with ezpz's API that ends with its test."""

import pytest

from tracelet.compat.ezpz import setup_tracker


@pytest.fixture
def tracked():
    """`tracked(...)`: `setup_tracker`, whose tracker is finished at the end of the test."""
    made = []

    def setup(*args, **kwargs):
        made.append(setup_tracker(*args, **kwargs))
        return made[-1]

    yield setup
    for tracker in made:
        tracker.finish()
