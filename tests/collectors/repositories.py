"""Create git repositories, and a git that hangs; wait for conditions."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

DEADLINE = 60
T = TypeVar("T")


class Repository:
    """A folder with a git repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *command: str) -> str:
        """Run a command and return its output."""
        options = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "protocol.file.allow=always")
        done = subprocess.run(
            ["git", *options, *command], cwd=self.folder, capture_output=True, text=True, timeout=DEADLINE, check=True
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self) -> str:
        """Commit all files and return the hash."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=one")
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")


def hanging_git(folder: Path, monkeypatch: pytest.MonkeyPatch, answers: str = "nothing") -> Path:
    """Put a `git` on the path that hangs in every command except `answers`.

    Return a file, to which it writes the numbers of its process and of a child process.
    """
    folder.mkdir()
    script = folder / "git"
    script.write_text(
        f"""#!/bin/sh
            case " $* " in *" {answers} "*) exec {shutil.which("git")} "$@";; esac
            sleep 3600 &
            echo $$ $! > {folder}/new
            mv {folder}/new {folder}/started
            wait
        """
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "started"


def until(condition: Callable[[], T], what: object) -> T:
    """Wait until `condition()` is true, and return its result. Fail after a minute."""
    end = time.monotonic() + DEADLINE
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {DEADLINE} s: {what}"
        time.sleep(0.01)
    return result


def is_running(pid: int | str) -> bool:
    """Return True if the process exists and is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
