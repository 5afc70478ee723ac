"""A process's rank from what each launcher sets."""

import os
import sys
import types

import pytest

import tracelet
from tracelet.distributed.launchers import find_process

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "GROUP_RANK": "1",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29500",
}
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
}
# Each is rank 5 of 8: the second of the four processes on the second node.
SECOND_NODE = {
    "torchrun": TORCHRUN,
    "Accelerate, one launcher a node": {**TORCHRUN, "GROUP_RANK": "1", "ACCELERATE_MIXED_PRECISION": "no"},
    "DeepSpeed": {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_SIZE": "4", "CROSS_RANK": "1"},
    "Ray Train": {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "4",
        "NODE_RANK": "1",
    },
    "Lightning": {"WORLD_SIZE": "8", "LOCAL_RANK": "1", "NODE_RANK": "1"},
    "SLURM": SLURM,
    "Open MPI": {
        "OMPI_COMM_WORLD_RANK": "5",
        "OMPI_COMM_WORLD_SIZE": "8",
        "OMPI_COMM_WORLD_LOCAL_RANK": "1",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
        "OMPI_COMM_WORLD_NODE_RANK": "1",
    },
    "MVAPICH": {
        "MV2_COMM_WORLD_RANK": "5",
        "MV2_COMM_WORLD_SIZE": "8",
        "MV2_COMM_WORLD_LOCAL_RANK": "1",
        "MV2_COMM_WORLD_LOCAL_SIZE": "4",
    },
    "Intel MPI": {"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4"},
    "Cray PALS": {
        "PMI_RANK": "5",
        "PMI_SIZE": "8",
        "PALS_LOCAL_RANKID": "1",
        "PALS_LOCAL_SIZE": "4",
        "PALS_NODEID": "1",
    },
}


@pytest.mark.parametrize("launcher", SECOND_NODE)
def test_each_launcher_says_the_same(launcher):
    process = find_process(SECOND_NODE[launcher])
    assert process is not None
    place = (process.rank, process.world_size, process.local_rank, process.local_world_size)
    assert (5, 8, 1, 4, 1, 2) == (*place, process.worker_index, process.num_workers)


ALONE = {
    "nothing": {},
    "one process of torchrun": {**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"},
    "torchrun with one process inside a step of eight": {**SLURM, **TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"},
    "a batch script, which is no step": {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "4711"},
    "a shell in an allocation": {**SLURM, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"},
    "a shell of a step with several tasks": {**SLURM, "SLURM_PROCID": "0", "SLURM_PTY_PORT": "40001"},
    "a world size without a rank": {"WORLD_SIZE": "8"},
    "a rank without a world size": {"RANK": "3"},
    "a rank that is not in the world": {"RANK": "8", "WORLD_SIZE": "8"},
    "no numbers": {"RANK": "one", "WORLD_SIZE": "-2"},
    "empty variables": {"RANK": "", "WORLD_SIZE": ""},
    "digits of another alphabet": {"RANK": "٣", "WORLD_SIZE": "٤"},
}


@pytest.mark.parametrize("case", ALONE)
def test_one_process(case):
    assert None is find_process(ALONE[case])


def test_without_local_variables_all_ranks_are_on_one_node():
    process = find_process({"RANK": "3", "WORLD_SIZE": "4"})
    assert (3, 4, 0, 1) == (process.local_rank, process.local_world_size, process.worker_index, process.num_workers)


@pytest.mark.parametrize("local_world_size", ["0", "9", "x"])
def test_an_impossible_number_of_local_processes_is_ignored(local_world_size):
    process = find_process({**TORCHRUN, "LOCAL_WORLD_SIZE": local_world_size})
    assert (8, 1) == (process.local_world_size, process.num_workers)


def test_nodes_with_different_numbers_of_tasks():
    tasks = {"SLURM_STEP_TASKS_PER_NODE": "4,2(x2)", "SLURM_PROCID": "6", "SLURM_LOCALID": "0", "SLURM_NODEID": "2"}
    process = find_process({**SLURM, **tasks})
    assert (6, 0, 2, 2) == (process.rank, process.local_rank, process.local_world_size, process.worker_index)


def test_torchrun_in_a_slurm_step_counts_its_own_ranks():
    process = find_process({**SLURM, "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", **TORCHRUN})
    assert (5, 8) == (process.rank, process.world_size)


@pytest.mark.parametrize(
    ("variables", "job_id"),
    [
        ({**TORCHRUN, "TORCHELASTIC_RUN_ID": "night-7"}, "night-7"),
        ({**TORCHRUN, "TORCHELASTIC_RUN_ID": "none"}, None),  # torchrun's default
        (TORCHRUN, None),
        (SLURM, "slurm-4711.0"),
        ({**SLURM, **TORCHRUN, "TORCHELASTIC_RUN_ID": "none"}, None),  # one step may start several of them
        ({**SECOND_NODE["Open MPI"], "PMIX_NAMESPACE": "prterun-host-12@1"}, None),
    ],
)
def test_the_id_of_the_job(variables, job_id):
    assert job_id == find_process(variables).job_id


def test_an_initialised_process_group_counts_first(monkeypatch):
    distributed = types.SimpleNamespace(is_initialized=lambda: True, get_rank=lambda: 2, get_world_size=lambda: 4)
    monkeypatch.setitem(sys.modules, "torch.distributed", distributed)
    for variables in ({}, {"RANK": "0", "WORLD_SIZE": "1"}, SLURM):
        process = find_process(variables)
        assert (2, 4) == (process.rank, process.world_size)
    process = find_process({**TORCHRUN, "RANK": "2", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"})
    assert (2, 0, 2) == (process.rank, process.local_rank, process.num_workers)
    monkeypatch.setattr(distributed, "is_initialized", lambda: False)
    assert None is find_process({})


def test_the_documented_keys(monkeypatch):
    assert None is tracelet.get_distributed_info()
    for name, value in TORCHRUN.items():
        monkeypatch.setitem(os.environ, name, value)
    assert {
        "rank": 5,
        "local_rank": 1,
        "world_size": 8,
        "local_world_size": 4,
        "worker_index": 1,
        "num_workers": 2,
    } == tracelet.get_distributed_info()
