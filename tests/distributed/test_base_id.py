"""The id that the ranks of a job agree on, without a word between them."""

import os
import re
import subprocess
import sys

import pytest

from tracelet.distributed.base_id import agreed_id
from tracelet.distributed.process import Process
from tracelet.runs.folders import check_run_id

RANKS = 8
# Starts the ranks of one of two nodes as a launcher does, once or, with a restart, twice.
LAUNCHER = """
import os, subprocess, sys
sys.stdin.readline()
for attempt in range(int(sys.argv[2])):
    ranks = []
    for rank in range(int(sys.argv[3])):
        environment = {**os.environ, "RANK": str(rank), "LOCAL_WORLD_SIZE": sys.argv[3]}
        environment |= {"WORLD_SIZE": str(2 * int(sys.argv[3])), "MASTER_ADDR": "localhost"}
        environment["MASTER_PORT"] = str(29500 + attempt)
        ranks.append(subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=environment))
    for rank in ranks:
        assert 0 == rank.wait(60)
"""
RANK = """
import os, sys
from pathlib import Path
from tracelet.distributed.base_id import agreed_id
from tracelet.distributed.launchers import find_process
print(agreed_id(find_process(), Path(os.environ["RUNS"]), lambda: f"id-{os.getpid()}"))
"""
# A rank whose program runs in a process below the one that the launcher started.
NESTED = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {RANK!r}]))"


def launched(runs, *, rank=RANK, starts=1, ranks=RANKS):
    """The ids of all ranks."""
    command = [sys.executable, "-c", LAUNCHER, rank, str(starts), str(ranks)]
    environment = {**os.environ, "RUNS": str(runs)}
    result = subprocess.run(
        command, env=environment, input="go\n", capture_output=True, text=True, timeout=120, check=True
    )
    return result.stdout.split()


def process(**fields):
    return Process(rank=0, world_size=2, local_rank=0, local_world_size=2, worker_index=0, **fields)


def test_all_ranks_of_a_launcher_agree(tmp_path):
    ids = launched(tmp_path)
    assert (RANKS, 1) == (len(ids), len(set(ids)))


def test_the_next_job_gets_another_id(tmp_path):
    """Its address and port are the same, and files of the job before are older than its launcher."""
    first = launched(tmp_path, ranks=2)
    for file in (tmp_path / ".rendezvous").iterdir():
        os.utime(file, (1, 1))
    assert set(first).isdisjoint(launched(tmp_path, ranks=2))


def test_a_restart_by_the_same_launcher_keeps_the_id(tmp_path):
    """Also with another port: torchrun looks for a free one at each restart."""
    ids = launched(tmp_path, starts=2, ranks=2)
    assert (4, 1) == (len(ids), len(set(ids)))


def test_a_rank_may_be_a_grandchild_of_the_launcher(tmp_path):
    ids = launched(tmp_path, rank=NESTED, ranks=3)
    assert (3, 1) == (len(ids), len(set(ids)))


def test_launchers_of_two_nodes_agree_by_the_address_of_the_job(tmp_path):
    """Both nodes' launchers run before the first rank writes its file, as torchrun's wait for each other."""
    environment = {**os.environ, "RUNS": str(tmp_path)}
    nodes = [
        subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, RANK, "1", "2"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ids = [word for node in nodes for word in node.communicate("go\n", timeout=60)[0].split()]
    assert (4, 1) == (len(ids), len(set(ids)))


def test_the_launchers_own_id_needs_no_file(tmp_path):
    assert "night-7" == agreed_id(process(job_id="night-7"), tmp_path / "runs", lambda: pytest.fail("a new id"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("text", ["a/b c", "x" * 200, "-leading", "...", "größe", "4711@host"])
def test_any_id_of_a_job_becomes_a_run_id(tmp_path, text):
    found = agreed_id(process(job_id=text), tmp_path, lambda: "new")
    assert found == agreed_id(process(job_id=text), tmp_path, lambda: "new")
    assert found != agreed_id(process(job_id=f"{text}."), tmp_path, lambda: "new")
    check_run_id(f"{found}-worker-9999-rank-9999")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=re.escape("file")):
        agreed_id(process(), tmp_path / "file", lambda: "new")


def test_the_files_are_private(tmp_path):
    launched(tmp_path, ranks=2)
    assert 0o700 == (tmp_path / ".rendezvous").stat().st_mode & 0o777
    assert ".rendezvous" == next(path.name for path in tmp_path.iterdir() if path.name != "home")
