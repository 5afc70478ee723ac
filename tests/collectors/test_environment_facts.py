"""environment: what is told of interpreter, packages, machine and job, and nothing else of the environment."""

import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path

import pytest

from tracelet.collectors import environment


def facts():
    return environment.read().facts["environment"]


def test_interpreter_and_machine(monkeypatch):
    monkeypatch.setattr(sys, "argv", [Path("train.py"), "--lr", "0.1", "--token", "abc"])  # some put paths there
    told = facts()
    assert (platform.python_version(), sys.executable, platform.node(), os.cpu_count()) == (
        told["python"],
        told["executable"],
        told["hostname"],
        told["cpus"],
    )
    assert ["train.py", "--lr", "0.1", "--token", "***"] == told["argv"]
    assert told["memory_bytes"] > 2**28
    assert 1 <= told["cpus_allowed"] <= told["cpus"]


def test_every_installed_package():
    """By the names and versions that importlib.metadata has for them."""
    expected = {}
    for one in importlib.metadata.distributions():
        if one.metadata["Name"]:
            expected.setdefault(one.metadata["Name"], one.version)
    assert expected == facts()["packages"]
    assert "msgspec" in expected


def test_a_package_that_is_half_there_hides_no_other(tmp_path, monkeypatch):
    """No metadata, metadata that is no text, metadata without a version; and the first of two is the one imported."""
    for name, content in {
        "empty": None,
        "broken": b"Name: broken\xff\xfe\nVersion: 1\n",
        "versionless": b"Name: versionless\n",
        "msgspec": b"Metadata-Version: 2.1\nName: msgspec\nVersion: 0.0.1\n\nName: other\n",
    }.items():
        place = tmp_path / "site" / f"{name}-1.dist-info"
        place.mkdir(parents=True)
        if content is not None:
            (place / "METADATA").write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    found = environment.packages()
    assert {"msgspec": "0.0.1"} == {name: found[name] for name in found if name in ("empty", "broken", "msgspec")}
    assert "pytest" in found


def test_of_the_environment_only_what_is_named(monkeypatch):
    """A job's ids are kept; no other variable is anywhere in it."""
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "elastic")
    monkeypatch.setenv("RANK", "")
    monkeypatch.setenv("SLURM_JOB_USER", "a-person")
    monkeypatch.setenv("WANDB_API_KEY", "a-key-of-wandb")
    monkeypatch.setenv("MY_VARIABLE", "a-value-of-mine")
    told = facts()
    assert {"SLURM_JOB_ID": "4711", "TORCHELASTIC_RUN_ID": "elastic"} == {
        name: value for name, value in told["job"].items() if name != "CUDA_VISIBLE_DEVICES"
    }
    text = json.dumps(told)
    assert [] == [word for word in ("a-person", "a-key-of-wandb", "a-value-of-mine") if word in text]


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "found"),
    [
        ("12:pids:/docker/" + "a1" * 32 + "\n", "", True),
        ("1:name=systemd:/kubepods/burstable/pod1f-2e/" + "a1" * 32 + "\n", "", True),
        ("0::/system.slice/docker-" + "a1" * 32 + ".scope\n", "", True),
        ("0::/\n", "1 2 0:1 /var/lib/docker/containers/" + "a1" * 32 + "/hostname /etc/hostname rw\n", True),
        ("0::/\n", "1 2 0:1 / / rw upperdir=/var/lib/docker/overlay2/" + "a1" * 32 + "/diff\n", False),
        ("0::/user.slice/session-1.scope\n", "", False),
        (None, None, False),
    ],
)
def test_the_container(tmp_path, cgroup, mountinfo, found):
    """As the kernel tells it, in either generation of control groups; the layers of an image are no containers."""
    for name, text in (("cgroup", cgroup), ("mountinfo", mountinfo)):
        if text is not None:
            (tmp_path / name).write_text(text)
    assert ("a1" * 32 if found else None) == environment.container(tmp_path)
