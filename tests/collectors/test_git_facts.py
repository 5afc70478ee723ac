"""git: what is told of a repository, what never is, and that nothing of it is run or changed."""

import os
import subprocess
import time

import pytest
from repositories import Repository, hanging_git, is_running, until

from tracelet.collectors import git
from tracelet.collectors.git import bare_url


def minute():
    return 60.0


def facts(folder):
    return git.read(folder, minute).facts["git"]


def test_a_clean_repository(repository):
    """Commit, branch and remote, from any folder in it."""
    repository.git("remote", "add", "origin", "https://example.com/team/project.git")
    inside = repository.folder / "deep" / "down"
    inside.mkdir(parents=True)
    expected = {
        "commit": repository.head,
        "branch": "main",
        "dirty": False,
        "remote": "https://example.com/team/project.git",
    }
    assert expected == facts(repository.folder) == facts(inside)


def test_changed_files_make_it_dirty(repository):
    """In the working tree, in the index, deleted; files that git does not know do not count."""
    repository.write("data.bin", "unknown")
    assert facts(repository.folder)["dirty"] is False
    repository.write("train.py", "print(2)\n")
    assert facts(repository.folder)["dirty"] is True
    repository.git("add", "train.py")
    assert facts(repository.folder)["dirty"] is True
    repository.commit()
    assert facts(repository.folder)["dirty"] is False
    (repository.folder / "train.py").unlink()
    assert facts(repository.folder)["dirty"] is True


def test_no_branch_is_none(repository):
    repository.git("checkout", "--quiet", "--detach")
    assert (repository.head, None) == (facts(repository.folder)["commit"], facts(repository.folder)["branch"])


def test_before_the_first_commit(tmp_path):
    empty = Repository(tmp_path / "empty")
    assert {"commit": None, "branch": None, "dirty": None, "remote": None} == facts(empty.folder)


def test_the_remote_is_the_branchs(repository):
    """That of the branch, else origin, else the first."""
    repository.git("remote", "add", "other", "https://example.com/other.git")
    assert "https://example.com/other.git" == facts(repository.folder)["remote"]
    repository.git("remote", "add", "origin", "https://example.com/origin.git")
    assert "https://example.com/origin.git" == facts(repository.folder)["remote"]
    repository.git("config", "branch.main.remote", "other")
    assert "https://example.com/other.git" == facts(repository.folder)["remote"]


def test_no_repository_is_silence(tmp_path, caplog):
    assert git.read(tmp_path, minute) is None
    assert git.read(tmp_path / "gone", minute) is None
    assert "" == caplog.text


def test_no_git_is_silence(repository, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git.read(repository.folder, minute) is None
    assert "" == caplog.text


def test_a_repository_that_is_broken(repository):
    """What git does not tell is None, and the rest is told."""
    (repository.folder / ".git" / "index").write_bytes(b"no index")
    found = facts(repository.folder)
    assert (repository.head, None) == (found["commit"], found["dirty"])


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://example.com/a/b.git", "https://example.com/a/b.git"),
        ("https://jane:pass-word-1@example.com/a/b.git", "https://example.com/a/b.git"),
        ("https://hf_abcdefghijkl@example.com:8443/a", "https://example.com:8443/a"),
        ("https://a:b@c@example.com/x", "https://example.com/x"),
        ("https://example.com/a?access_token=t#u", "https://example.com/a"),
        ("https://user:pa/ss@example.com/x", None),
        ("ssh://git@example.com/a", "ssh://git@example.com/a"),
        ("ssh://jane@example.com:22/a", "ssh://example.com:22/a"),
        ("ssh://git:secret@example.com/a", "ssh://example.com/a"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("git@example.com:a/b.git", "git@example.com:a/b.git"),
        ("jane@example.com:a/b.git", "example.com:a/b.git"),
        ("user:pass@example.com:a", None),
        ("ext::sh -c 'secret'", None),
        ("/srv/a.git", "/srv/a.git"),
        ("../a@2", "../a@2"),
        ("file:///srv/a.git", "file:///srv/a.git"),
    ],
)
def test_addresses_have_no_credentials(url, told):
    """What cannot be told apart is not told at all."""
    assert told == bare_url(url)


def test_a_password_is_told_to_be_hidden(repository):
    repository.git("remote", "add", "origin", "https://jane:pass%20word@example.com/a.git")
    assert ["pass%20word", "pass word"] == git.read(repository.folder, minute).secrets


# Nothing is run, nothing is changed.


@pytest.fixture
def booby_trapped(repository, tmp_path):
    """A repository whose configuration names a program for everything; each leaves a file in `ran`."""
    ran = tmp_path / "ran"
    ran.mkdir()

    def trap(name):
        script = tmp_path / f"trap-{name}"
        script.write_text(f"#!/bin/sh\ntouch {ran}/{name}\nexec cat\n")
        script.chmod(0o755)
        return str(script)

    repository.write(".gitattributes", "*.ipynb filter=strip\n*.txt diff=words\n*.lfs filter=long\n")
    for name in ("a.ipynb", "a.txt", "a.lfs"):
        repository.write(name, "one\n")
    repository.commit()
    for name in ("a.ipynb", "a.txt", "a.lfs", "train.py"):
        repository.write(name, "two\n")
    for key, name in {
        "core.fsmonitor": "fsmonitor",
        "core.pager": "pager",
        "core.sshCommand": "ssh",
        "core.askPass": "askpass",
        "credential.helper": "credential",
        "diff.external": "external",
        "diff.words.command": "command",
        "diff.words.textconv": "textconv",
        "filter.strip.clean": "clean",
        "filter.long.process": "process",
        "gpg.program": "gpg",
    }.items():
        repository.git("config", key, trap(name))
    repository.git("config", "filter.strip.required", "true")
    repository.git("config", "diff.autoRefreshIndex", "true")
    hooks = repository.folder / ".git" / "hooks"
    for name in ("post-index-change", "fsmonitor-watchman"):
        (hooks / name).write_text((tmp_path / "trap-pager").read_text().replace("/pager", f"/{name}"))
        (hooks / name).chmod(0o755)
    for one in ran.iterdir():
        one.unlink()
    return repository, ran


def test_nothing_that_is_configured_is_run(booby_trapped):
    """Monitors, hooks, filters, converters, external diffs: an ordinary git runs them, ours does not."""
    repository, ran = booby_trapped
    found = git.read(repository.folder, minute, diff=True)
    assert [] == list(ran.iterdir())
    assert (True, ["diff --git a/a.txt b/a.txt", "diff --git a/train.py b/train.py"]) == (
        found.facts["git"]["dirty"],
        [line for line in found.files["git.diff"].decode().splitlines() if line.startswith("diff ")],
    )
    nowhere = subprocess.DEVNULL
    subprocess.run(["git", "diff"], cwd=repository.folder, stdin=nowhere, stdout=nowhere, timeout=60, check=False)
    assert {"external", "fsmonitor", "clean"} & {one.name for one in ran.iterdir()}


def test_files_behind_a_filter_do_not_make_it_dirty(booby_trapped):
    repository, ran = booby_trapped
    for name, text in (("a.txt", "one\n"), ("train.py", "print(1)\n")):
        repository.write(name, text)
    assert facts(repository.folder)["dirty"] is False
    assert [] == list(ran.iterdir())


def test_the_repository_stays_as_it_is(repository):
    """Not a byte and not a time of its own files changes, also where the index could be brought up to date."""

    def state():
        return {path: path.stat().st_mtime_ns for path in (repository.folder / ".git").rglob("*") if path.is_file()}

    repository.write("other.py", "x\n")
    repository.commit()
    os.utime(repository.folder / "train.py", (1, 1))
    repository.write("other.py", "y\n")
    before = state()
    git.read(repository.folder, minute, diff=True)
    assert before == state()


def test_the_programs_git_variables_are_not_for_ours(repository, tmp_path, monkeypatch):
    """In a hook, git's own variables point elsewhere."""
    other = Repository(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    found = facts(repository.folder)
    monkeypatch.undo()
    assert repository.head == found["commit"]
    assert not (tmp_path / "trace").exists()


# The diff.


def test_a_diff_can_be_applied(repository, tmp_path):
    """Index and working tree together, odd names too, whatever the person's own diffs look like."""
    repository.write("with space\nand line.py", "a\n")
    repository.write("-c.py", "a\n")
    repository.commit()
    repository.git("config", "diff.noprefix", "true")
    repository.git("config", "color.ui", "always")
    for name in ("train.py", "with space\nand line.py", "-c.py"):
        repository.write(name, f"changed {name!r}\n")
    repository.git("add", "train.py")
    found = git.read(repository.folder, minute, facts=False, diff=True)
    assert {} == found.facts
    (tmp_path / "git.diff").write_bytes(found.files["git.diff"])
    repository.git("clone", "--quiet", str(repository.folder), str(tmp_path / "clone"))
    subprocess.run(["git", "apply", str(tmp_path / "git.diff")], cwd=tmp_path / "clone", timeout=60, check=True)
    for name in ("train.py", "with space\nand line.py", "-c.py"):
        assert f"changed {name!r}\n" == (tmp_path / "clone" / name).read_text()


@pytest.fixture
def binaries(repository):
    """A text and a binary file that are others now."""
    for name, data in (("a.bin", bytes(range(256))), ("a.py", b"one\n")):
        (repository.folder / name).write_bytes(data)
    repository.commit()
    for name, data in (("a.bin", bytes(range(255, 0, -1))), ("a.py", b"two\n")):
        (repository.folder / name).write_bytes(data)
    return repository


def applied(repository, diff, *more):
    """A clone with the diff applied to it."""
    clone = repository.folder.parent / "clone"
    repository.git("clone", "--quiet", str(repository.folder), str(clone))
    subprocess.run(["git", "apply", *more, "-"], cwd=clone, input=diff, timeout=60, check=True)
    return clone


def test_a_diff_of_a_binary_file_can_be_applied(binaries):
    diff = git.read(binaries.folder, minute, diff=True).files["git.diff"]
    clone = applied(binaries, diff)
    for name in ("a.bin", "a.py"):
        assert (binaries.folder / name).read_bytes() == (clone / name).read_bytes()


@pytest.mark.parametrize("limit", ["_MAX_PACKED", "MAX_DIFF"])
def test_of_large_binary_files_the_names_are_told(limit, binaries, monkeypatch):
    """git would work on them for long, and no text would have room beside them: it can be applied without them."""
    monkeypatch.setattr(git, limit, 500)
    diff = git.read(binaries.folder, minute, diff=True).files["git.diff"]
    assert diff.startswith(b"# Binary changes are not included. Apply the others with: git apply --exclude=FILE\n")
    assert b"\nBinary files a/a.bin and b/a.bin differ\n" in diff
    clone = applied(binaries, diff, "--exclude=a.bin")
    assert ("two\n", bytes(range(256))) == ((clone / "a.py").read_text(), (clone / "a.bin").read_bytes())


def test_no_change_is_no_diff(repository):
    assert {} == git.read(repository.folder, minute, diff=True).files


def test_a_diff_is_bounded(repository, monkeypatch):
    """In bytes and in files; what is left out is said on top."""
    for name in ("a.py", "b.py", "c.py"):
        repository.write(name, "one\n")
    repository.commit()
    for name in ("a.py", "b.py", "c.py"):
        repository.write(name, "x" * 5000)
    monkeypatch.setattr(git, "MAX_DIFF", 3000)
    monkeypatch.setattr(git, "MAX_FILES", 2)
    diff = git.read(repository.folder, minute, diff=True).files["git.diff"].decode()
    assert ["# The first 2 of 3 changed files.", "# Cut after 3000 bytes."] == diff.splitlines()[:2]
    assert len(diff) < 3200


# Time.


def test_a_git_that_hangs_is_ended(repository, tmp_path, monkeypatch):
    """With what it had begun itself."""
    started = hanging_git(tmp_path / "bin", monkeypatch)
    end = time.monotonic() + 60
    left = lambda: -1.0 if started.exists() else end - time.monotonic()  # noqa: E731
    assert git.read(repository.folder, left) is None
    for pid in started.read_text().split():
        until(lambda pid=pid: not is_running(pid), "git and its child end")


def test_what_was_told_in_time_is_kept(repository, tmp_path, monkeypatch):
    """The commit is told before git is asked for the rest."""
    head = repository.head
    started = hanging_git(tmp_path / "bin", monkeypatch, answers="rev-parse")
    end = time.monotonic() + 60
    left = lambda: -1.0 if started.exists() else end - time.monotonic()  # noqa: E731
    assert {"commit": head, "branch": "main", "dirty": None, "remote": None} == git.read(
        repository.folder, left, diff=True
    ).facts["git"]


def test_no_time_at_all(repository):
    assert git.read(repository.folder, lambda: 0.0) is None
