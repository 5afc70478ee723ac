"""A backend that is away for the whole of a long run: what waits lies on the disk, not in memory."""

import json

import pytest
from programs import run_program

MEASURE = """
    import json, pathlib, sys
    sys.path.insert(0, sys.argv[3])
    from benchmarks.outage import measure

    print(json.dumps(measure(sys.argv[1], 100_000, pathlib.Path(sys.argv[2]))))
"""


@pytest.mark.parametrize("way", ["rss", "tracemalloc"])
def test_memory_does_not_grow_with_what_waits(way, tmp_path, pytestconfig):
    """A hundred thousand scalars for a backend that is down cost 10 MiB of memory at most, and 50 bytes each on the
    disk."""
    ended = run_program(MEASURE, way, tmp_path, pytestconfig.rootpath, deadline=120)
    assert 0 == ended.returncode, ended.err
    found = json.loads(ended.out)
    assert found["grown_mib"] < 10
    assert found["bytes_a_record"] < 50
    assert 120_000 == found["pending"]
