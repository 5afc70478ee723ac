"""Shell completion: what a press of the tab key gives, by the protocol that the shells' scripts speak."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

SHELLS = ("bash", "zsh", "fish")


def asked(tmp_path, *options, **environment):
    """What `tracelet` answers a shell."""
    done = subprocess.run(
        [sys.executable, *options, "-m", "tracelet"],
        env={**os.environ, "TRACELET_DIR": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done


def completed(tmp_path, *words, **environment):
    """What bash is told for the last of the words."""
    typed = ["tracelet", *words]
    told = {"COMP_WORDS": " ".join(typed), "COMP_CWORD": str(len(typed) - 1)}
    done = asked(tmp_path, _TRACELET_COMPLETE="complete_bash", **told, **environment)
    assert "" == done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("shell", SHELLS)
def test_there_is_a_script_for_each_shell(shell, tmp_path):
    script = asked(tmp_path, _TRACELET_COMPLETE=f"source_{shell}").stdout

    assert f"_TRACELET_COMPLETE=complete_{shell}" in script
    program = shutil.which(shell)
    if program is not None:  # the shell itself reads it
        assert 0 == subprocess.run([program, "-n"], input=script, text=True, timeout=60, check=False).returncode


def test_commands(tmp_path):
    assert ["runs"] == completed(tmp_path, "runs")
    assert {"run", "runs", "rm"} == set(completed(tmp_path, "r"))
    assert {"show", "sync", "doctor", "import", "gc", "compare"} <= set(completed(tmp_path, ""))


@pytest.mark.parametrize("command", ["show", "sync", "rm", "compare"])
def test_run_ids(finished_run, tmp_path, command):
    """Newest first, by their beginning; what stands on the line already is left out where several may stand."""
    for run_id in ("one-1", "one-2", "two-1"):
        finished_run({}, run_id=run_id, backend=None)

    assert ["one-2", "one-1"] == completed(tmp_path, command, "one")
    assert ["two-1"] == completed(tmp_path, command, "t")
    if command != "show":
        assert ["one-2"] == completed(tmp_path, command, "one-1", "one")


def test_run_ids_of_another_folder(finished_run, tmp_path):
    finished_run({}, run_id="here", backend=None)
    finished_run({}, run_id="there", backend=None, dir=tmp_path / "other")

    assert ["there"] == completed(tmp_path, "show", "--dir", str(tmp_path / "other"), "")


@pytest.mark.parametrize("command", ["sync", "import", "doctor"])
def test_backend_names(tmp_path, command):
    assert ["mlflow"] == completed(tmp_path, command, "--backend", "ml")
    assert {"csv,memory", "csv,mlflow"} == set(completed(tmp_path, command, "--backend", "csv,m"))


def test_settings_that_cannot_be_read_complete_nothing(tmp_path):
    """The command itself says what is wrong."""
    assert [] == completed(tmp_path, "show", "x", TRACELET_COLOUR="red")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_told_the_same(shell, finished_run, tmp_path):
    finished_run({}, run_id="one-1", backend=None)
    words = {"_TYPER_COMPLETE_ARGS": "tracelet show one", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}

    told = asked(tmp_path, _TRACELET_COMPLETE=f"complete_{shell}", **words).stdout

    assert "one-1" in told


def test_nothing_slow_is_imported(tmp_path):
    """A key is pressed: no vendor, no torch, no TensorBoard."""
    told = {"_TRACELET_COMPLETE": "complete_bash", "COMP_WORDS": "tracelet sync --backend wa", "COMP_CWORD": "3"}
    done = asked(tmp_path, "-X", "importtime", **told)

    assert "wandb" == done.stdout.strip()
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert set() == imported & {"torch", "tensorboard", "wandb", "mlflow", "clearml", "aim", "matplotlib", "numpy"}


def test_bash_itself(finished_run, tmp_path):
    """The whole way: the script is sourced, the function is called as for a key, and the words are there."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    finished_run({}, run_id="one-1", backend=None)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "tracelet").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tracelet "$@"\n')
    (tools / "tracelet").chmod(0o755)
    program = """
        eval "$(_TRACELET_COMPLETE=source_bash tracelet)"
        complete -p tracelet >/dev/null || exit 3
        COMP_WORDS=(tracelet show one) COMP_CWORD=2
        $(complete -p tracelet | sed 's/.*-F \\([^ ]*\\) .*/\\1/') tracelet one show
        echo "${COMPREPLY[@]}"
    """
    paths = {"PATH": f"{tools}:{os.environ['PATH']}", "TRACELET_DIR": str(tmp_path)}
    done = subprocess.run(
        [bash, "--norc", "-c", program],
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, "one-1\n") == (done.returncode, done.stdout), done.stderr
