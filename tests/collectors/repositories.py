"""Real git repositories, a git that hangs, and patience."""

import os
import shutil
import subprocess
import time

DEADLINE = 60


class Repository:
    """A folder with a repository; made by git itself."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *command):
        """What git prints."""
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "protocol.file.allow=always")
        done = subprocess.run(
            ["git", *who, *command], cwd=self.folder, capture_output=True, text=True, timeout=DEADLINE, check=True
        )
        return done.stdout.strip()

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=one")
        return self.head

    @property
    def head(self):
        return self.git("rev-parse", "HEAD")


def hanging_git(folder, monkeypatch, answers="nothing"):
    """A `git` on the path that answers one command, and no other.

    It leaves its process number, and that of a process which it began, in the file that is given.
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


def until(true, what):
    """Wait until `true()`; fails after a minute."""
    end = time.monotonic() + DEADLINE
    while not (found := true()):
        assert time.monotonic() < end, f"not within {DEADLINE} s: {what}"
        time.sleep(0.01)
    return found


def is_running(pid):
    """Whether there is a process of that number that is not dead already."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
