"""Whichever way values come in, every backend's own store has them: one program for each way, to all backends."""

import any_to_any
import pytest
from any_to_any import BACKENDS, CAPTURED, CELLS, CHEAP, DIFFERENCES, TITLES, carried, expected, found
from support import REPOSITORY

import tracelet
from tracelet.errors import ConfigurationError

PAGE = REPOSITORY / "docs" / "any-to-any.md"


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The finished programs, which have delivered to the cheap backends."""
    return any_to_any.Programs(CHEAP, lambda: tmp_path_factory.mktemp("way"))


@pytest.mark.timeout(2 * any_to_any.DEADLINE)
@pytest.mark.parametrize(("way", "backend", "kind"), carried(CHEAP))
def test_a_store_has_what_the_program_logged(programs, way, backend, kind):
    """Exactly that, under the names of the page."""
    assert expected(way, backend, kind) == found(programs.folder(way), way, backend, kind)


def test_captured_wandb_is_refused_beside_the_backend_wandb():
    with pytest.raises(ConfigurationError, match="wandb"):
        tracelet.start_logging(backend=["csv", "wandb"], capture=["wandb"])
    assert [any_to_any.REFUSED] == [cell for cell in CELLS[CAPTURED].values() if cell != any_to_any.ALL]


def _tables():
    """The rows of each table of the page, heading first."""
    blocks = PAGE.read_text(encoding="utf-8").split("\n\n")
    tables = [[line.strip("| ").split(" | ") for line in block.splitlines()] for block in blocks if block[0] == "|"]
    return [[heading, *rows] for heading, _, *rows in tables]


def test_the_page_has_these_cells():
    (heading, *rows), differences = _tables()
    names = ["a third party" if backend == "lines" else backend for backend in BACKENDS]
    assert names == heading[1:]
    assert {TITLES[way]: list(cells.values()) for way, cells in CELLS.items()} == {way: cells for way, *cells in rows}
    assert [[TITLES[way], text] for way, text in DIFFERENCES.items()] == differences[1:]
