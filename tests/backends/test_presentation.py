"""Histograms as they are drawn: ascending, finite, with every value; and the paths of artifacts."""

import itertools
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelet.backends.presentation import files_of_run, histogram_bars, histogram_png
from tracelet.records import Artifact, File, Histogram

MOST = sys.float_info.max
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([MOST, -MOST, 0.0])


def histogram(limits, counts, minimum, maximum):
    return Histogram("h", tuple(limits), tuple(counts), minimum, maximum, sum(counts), 0.0, 0.0, 1, 1.0)


@pytest.mark.parametrize(
    ("record", "bars"),
    [
        (histogram([2.9, 3.17, MOST], [0, 7, 0], 3, 3), ([7], [2.9, 3.17])),
        (histogram([-MOST, -2.1, -1.9, 1.1, MOST], [0, 0, 1, 2, 0], -2, 1), ([1, 2], [-2.1, -1.9, 1.1])),
        (histogram([-MOST, 0, 0.5, 1, 2, math.inf], [0, 0, 5, 0, 0, 0], 0.25, 0.4), ([5], [0, 0.5])),
        (histogram([-1, MOST], [2, 3], -5, 9), ([2, 3], [-5, -1, 9])),
        (histogram([5, MOST], [1, 1], 4, 4.99), ([1, 1], [4, 4.99, 4.99])),
        (histogram([MOST], [0], MOST, -MOST), ([0], [0, 0])),
        (histogram([0, 1, 2, 3], [0, 0, 4, 0], 1.5, 1.6), ([0, 4, 0], [0, 1, 2, 3])),
    ],
    ids=[
        "last empty",
        "both ends",
        "several empty",
        "filled",
        "maximum below an edge",
        "no value",
        "the program's own",
    ],
)
def test_bars_of_unbounded_histograms(record, bars):
    """Empty buckets without a bound are not drawn; bounded buckets stay as the program made them."""
    assert bars == histogram_bars(record)
    assert histogram_png(record).startswith(b"\x89PNG")


@given(st.lists(st.tuples(NUMBERS, st.integers(0, 9)), max_size=9), NUMBERS, NUMBERS, st.none() | st.integers(1, 4))
def test_edges_ascend_and_are_finite(buckets, minimum, maximum, most):
    """Whatever a file says, with the number of values unchanged."""
    record = histogram([limit for limit, _ in buckets], [count for _, count in buckets], minimum, maximum)
    counts, edges = histogram_bars(record, most)
    assert len(edges) == len(counts) + 1
    assert sum(count for _, count in buckets) == sum(counts)
    assert all(math.isfinite(edge) for edge in edges)
    assert all(left <= right for left, right in itertools.pairwise(edges))
    assert most is None or len(counts) <= most


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("models/best.pth", "file", "models/best.pth"),
        ("models/", "directory", "models/m.pth"),
        ("resnet", "model", "resnet/m.pth"),
        ("models/", "model", "models/m.pth"),
    ],
)
def test_the_path_of_a_file_in_a_store_without_names_of_artifacts(name, kind, path):
    assert [path] == list(files_of_run(Artifact(name, (File("m.pth", "", 0),), 1.0, kind)))
