"""Repeat tests/test_any_to_any.py with all backends."""

import any_to_any
import pytest
from any_to_any import BACKENDS, carried, expected, found


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The finished programs, which have delivered to all backends."""
    return any_to_any.Programs(BACKENDS, lambda: tmp_path_factory.mktemp("way"))


@pytest.mark.timeout(2 * any_to_any.DEADLINE)
@pytest.mark.parametrize(("way", "backend", "kind"), carried(BACKENDS))
def test_a_store_has_what_the_program_logged(programs, way, backend, kind):
    """Exactly that, under the names of the page."""
    assert expected(way, backend, kind) == found(programs.folder(way), way, backend, kind)
