"""The table of docs/distributed.md, for two nodes of two processes and for one node of two."""

import pytest

from tracelet.distributed.launchers import find_process
from tracelet.distributed.plan import role_of

BASE = "night"


def rows(mode, scope, nodes):
    """What each rank does: its run's id and group, or None if it is silent; in a shared run, its label and prefix."""
    found = []
    for rank in range(2 * nodes):
        variables = {
            "RANK": rank,
            "WORLD_SIZE": 2 * nodes,
            "LOCAL_RANK": rank % 2,
            "LOCAL_WORLD_SIZE": 2,
            "GROUP_RANK": rank // 2,
        }
        role = role_of(find_process({name: str(value) for name, value in variables.items()}), mode, scope)
        group = None if role.group_suffix is None else BASE + role.group_suffix
        if mode == "shared":
            assert group is None
            found.append((BASE + role.suffix, role.label, role.prefix))
        else:
            assert (None, "") == (role.label, role.prefix)
            found.append(None if role.is_silent else (BASE + role.suffix, group))
    return found


@pytest.mark.parametrize(
    ("mode", "scope", "expected"),
    [
        ("auto", "global", [("night", None), None, None, None]),
        ("auto", "worker", [("night-worker-0", None), None, ("night-worker-1", None), None]),
        ("new", "global", [(f"night-rank-{rank}", "night") for rank in range(4)]),
        (
            "shared",
            "global",
            [
                ("night", "worker-0-rank-0", ""),
                ("night", "worker-0-rank-1", "rank-1/"),
                ("night", "worker-1-rank-0", "rank-2/"),
                ("night", "worker-1-rank-1", "rank-3/"),
            ],
        ),
        (
            "shared",
            "worker",
            [
                ("night-worker-0", "worker-0-rank-0", ""),
                ("night-worker-0", "worker-0-rank-1", "rank-1/"),
                ("night-worker-1", "worker-1-rank-0", ""),
                ("night-worker-1", "worker-1-rank-1", "rank-1/"),
            ],
        ),
        (
            "new",
            "worker",
            [
                ("night-worker-0-rank-0", "night-worker-0"),
                ("night-worker-0-rank-1", "night-worker-0"),
                ("night-worker-1-rank-0", "night-worker-1"),
                ("night-worker-1-rank-1", "night-worker-1"),
            ],
        ),
    ],
)
def test_two_nodes(mode, scope, expected):
    assert expected == rows(mode, scope, nodes=2)


@pytest.mark.parametrize("scope", ["global", "worker"])
def test_one_node(scope):
    """With one node, both scopes are the same."""
    assert [("night", None), None] == rows("auto", scope, nodes=1)
    assert [("night-rank-0", "night"), ("night-rank-1", "night")] == rows("new", scope, nodes=1)
    assert [("night", "rank-0", ""), ("night", "rank-1", "rank-1/")] == rows("shared", scope, nodes=1)


@pytest.mark.parametrize("mode", ["auto", "new", "shared"])
@pytest.mark.parametrize("scope", ["global", "worker"])
def test_one_process(mode, scope):
    role = role_of(None, mode, scope)
    assert (False, "", None, None, "") == (role.is_silent, role.suffix, role.group_suffix, role.label, role.prefix)
