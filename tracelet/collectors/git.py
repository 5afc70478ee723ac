"""Find the commit that a program runs, with read-only git commands.

A repository's configuration can contain programs: hooks, a file system monitor, content filters, external diffs, text
converters. These commands run none of them, lock and write nothing, and never prompt or use the network.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracelet.collectors.base import Collected, TimeLeft
from tracelet.redaction import passwords_in_url
from tracelet.settings import environment_of

_COMMAND = (
    *("git", "--no-pager", "--literal-pathspecs"),
    *("-c", "core.fsmonitor=", "-c", f"core.hooksPath={os.devnull}", "-c", "core.sshCommand=false"),
    # Otherwise `git diff` locks and rewrites the index if a file was touched.
    *("-c", "diff.autoRefreshIndex=false", "-c", "submodule.recurse=false"),
)
# The variables passed to git: those for its installation, the user's configuration and its limits.
_PASSED_VARIABLES = (
    *("PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "USERPROFILE"),
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),
    *("GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM"),
)
_SET_VARIABLES = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "none",  # a partial clone would fetch what a diff needs
    "GIT_NO_LAZY_FETCH": "1",
    "LC_ALL": "C",
}
_CONFIGURED = r"^(remote\..*\.url|branch\..*\.remote|filter\..*\.(clean|process))$"
_SUBMODULES = "--ignore-submodules=dirty"  # git would start another git in each, with that one's configuration
_BINARY = re.compile(rb"^Binary files .* differ$", re.MULTILINE)  # a line of a file has a sign before it
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

_MAX_OUTPUT = 4 << 20
MAX_DIFF = 4 << 20
"""Maximum size of a diff, in bytes."""
_MAX_PACKED = 16 << 20
MAX_FILES = 200
"""Maximum number of changed files that are checked, and that a diff contains."""
_POLL_SECONDS = 0.05
_KILL_SECONDS = 1.0


class _GitFailed(Exception):
    """git failed, or the time limit passed."""


def read(directory: Path, left: TimeLeft, *, facts: bool = True, diff: bool = False) -> Collected | None:
    """Return the commit checked out in `directory`; None if git or a repository is missing.

    A fact is None if git did not return it in time.
    """
    git = _Git(directory, left)
    head: list[str] = []
    with contextlib.suppress(_GitFailed):
        head = git.head()
    if not head:
        return None
    git.directory = Path(head[0])
    commit = head[1] if len(head) > 1 and _COMMIT.fullmatch(head[1]) else None
    branch = head[2].removeprefix("refs/heads/") if len(head) > 2 and head[2] != "HEAD" else None
    git_facts: dict[str, Any] = {"commit": commit, "branch": branch, "dirty": None, "remote": None}
    files: dict[str, bytes] = {}
    secrets: list[str] = []
    with contextlib.suppress(_GitFailed):
        configured = git.configured()
        url = _url(configured, branch)
        secrets = passwords_in_url(url)
        git_facts["remote"] = None if url is None else bare_url(url)
        if commit is not None and git.disable_filters(configured):
            changed = git.changed()
            git_facts["dirty"] = bool(changed)
            if diff and changed:
                files["git.diff"] = git.diff(changed)
    return Collected(facts={"git": git_facts} if facts else {}, files=files, secrets=secrets)


def is_in_environment(folder: Path) -> bool:
    """Return whether a folder belongs to Python or an environment. A repository around it is not the program's."""
    if {"site-packages", "dist-packages"} & set(folder.parts):
        return True
    installed = {Path(path) for name, path in sysconfig.get_paths().items() if name in ("scripts", "stdlib")}
    above = (folder, *folder.parents)
    return not installed.isdisjoint(above) or any((parent / "pyvenv.cfg").is_file() for parent in above)


def bare_url(url: str) -> str | None:
    """Return a remote's address without credentials; None if they cannot be separated from it."""
    if re.match(r"[\w+.\-]+::", url):  # the format of a remote helper
        return None
    scheme, mark, rest = url.partition("://")
    if mark:
        host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    else:
        host, slash, path = url.partition(":")
        if not slash or "/" in host:
            return url  # a path
        scheme, mark = "", ""
    user, _, host = host.rpartition("@")
    if not re.fullmatch(r"[\w.\-]*(?::\d+)?|\[[\w:.%]+\](?::\d+)?", host) or "@" in path:
        return None
    user = "git@" if user == "git" else ""  # the common user of SSH remotes, not a secret
    return f"{scheme}{mark}{user}{host}{slash}{path}"


def _url(configured: Sequence[tuple[str, str]], branch: str | None) -> str | None:
    """Return the address of the branch's remote, else of `origin`, else of the first remote."""
    urls: dict[str, str] = {}
    for key, value in configured:
        if key.startswith("remote."):
            urls.setdefault(key.removeprefix("remote.").removesuffix(".url"), value)
    own = dict(configured).get(f"branch.{branch}.remote", "origin")
    return urls.get(own) or urls.get("origin") or next(iter(urls.values()), None)


class _Git:
    """Run read-only commands in one directory, within `left()` seconds in total."""

    def __init__(self, directory: Path, left: TimeLeft) -> None:
        self.directory = directory
        self._left = left
        self._drivers: list[str] = []

    def head(self) -> list[str]:
        """Return the repository's folder, commit and full branch name; only the folder if there is no commit."""
        output = self._run("rev-parse", "--show-toplevel", "HEAD", "--symbolic-full-name", "HEAD", may_fail=True)
        return _text(output).splitlines()

    def configured(self) -> list[tuple[str, str]]:
        """Return the configured remotes, the branches' remotes and content filters, and nothing else."""
        entries = _text(self._run("config", "-z", "--get-regexp", _CONFIGURED, may_fail=True)).split("\0")
        return [(key, value) for key, _, value in (entry.partition("\n") for entry in entries if entry)]

    def disable_filters(self, configured: Sequence[tuple[str, str]]) -> bool:
        """Disable the content filters, which are foreign programs; False if one cannot be disabled."""
        drivers = {key.split(".", 1)[1].rpartition(".")[0] for key, _ in configured if key.startswith("filter.")}
        self._drivers = sorted(drivers)
        return not any("=" in driver for driver in drivers)

    def changed(self) -> list[str]:
        """Return the changed files of the commit, except those with a content filter: git needs it to compare."""
        output = self._run("status", "--porcelain", "-z", "--untracked-files=no", "--no-renames", _SUBMODULES)
        changed = [entry[3:] for entry in _text(output).split("\0") if len(entry) > 3]
        if changed and self._drivers:
            attributes = _text(self._run("check-attr", "-z", "filter", "--", *changed[:MAX_FILES])).split("\0")
            filtered = {
                path for path, value in zip(attributes[::3], attributes[2::3], strict=False) if value in self._drivers
            }
            changed = [path for path in changed if path not in filtered]
        return changed

    def diff(self, changed: Sequence[str]) -> bytes:
        """Diff index and working tree against the commit; if it exceeds a limit, start it with a note."""
        own = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--submodule=short", _SUBMODULES)
        named = ("--src-prefix=a/", "--dst-prefix=b/", "HEAD", "--", *changed[:MAX_FILES])
        diff = self._run("diff", *own, *named, max_bytes=MAX_DIFF)
        notes = []
        if len(changed) > MAX_FILES:
            notes.append(f"# The first {MAX_FILES} of {len(changed)} changed files.\n")
        if _BINARY.search(diff):
            whole = self._with_binaries(own, named, changed[:MAX_FILES])
            if whole is None:
                notes.append("# Binary changes are not included. Apply the others with: git apply --exclude=FILE\n")
            else:
                diff = whole
        if len(diff) > MAX_DIFF:
            notes.append(f"# Cut after {MAX_DIFF} bytes.\n")
        return "".join(notes).encode() + diff[:MAX_DIFF]

    def _with_binaries(self, own: Sequence[str], named: Sequence[str], changed: Sequence[str]) -> bytes | None:
        """Return the diff with binary changes; None if it is too large.

        Skip large files: git packs each one fully, using seconds and gigabytes, before it prints the first byte.
        """
        with contextlib.suppress(_GitFailed, OSError):
            entries = _text(self._run("ls-tree", "-z", "-l", "HEAD", "--", *changed)).split("\0")
            sizes = [int(words[3]) for words in map(str.split, entries) if len(words) > 3 and words[3].isdecimal()]
            sizes += [path.stat().st_size for path in (self.directory / name for name in changed) if path.is_file()]
            if sum(sizes) <= _MAX_PACKED:
                diff = self._run("diff", "--binary", *own, *named, max_bytes=MAX_DIFF)
                return diff if len(diff) <= MAX_DIFF else None
        return None

    def _run(self, *command: str, may_fail: bool = False, max_bytes: int = _MAX_OUTPUT) -> bytes:
        """Return the output of the command; if it exceeds `max_bytes`, stop soon after that."""
        off = [
            word
            for driver in self._drivers
            for key in ("clean=", "process=", "required=false")
            for word in ("-c", f"filter.{driver}.{key}")
        ]
        if self._left() <= 0:
            raise _GitFailed
        try:
            process = subprocess.Popen(
                [*_COMMAND, *off, *command],
                cwd=self.directory,
                env={**environment_of(_PASSED_VARIABLES), **_SET_VARIABLES},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C must not reach git; and its child processes end with it
            )
        except OSError as error:  # git is missing, or the directory was deleted
            raise _GitFailed from error
        try:
            output, ended = self._read(process, max_bytes)
            if ended and process.wait(max(0.0, self._left())) and not may_fail:
                raise _GitFailed
        except subprocess.TimeoutExpired as error:
            raise _GitFailed from error
        finally:
            _end(process)
        return output

    def _read(self, process: subprocess.Popen[bytes], max_bytes: int) -> tuple[bytes, bool]:
        """Return the output, and True if it is complete."""
        output = bytearray()
        assert process.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            while len(output) <= max_bytes:
                left = self._left()
                if left <= 0:
                    raise _GitFailed
                if ready.select(min(left, _POLL_SECONDS)):
                    piece = os.read(process.stdout.fileno(), 1 << 16)
                    if not piece:
                        return bytes(output), True
                    output += piece
        return bytes(output), False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe, and kill the process group if git is still running."""
    if process.stdout is not None:
        process.stdout.close()
    if process.returncode is None:  # not reaped yet, so its pid is not reused
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # blocked in a dead file system
            process.wait(_KILL_SECONDS)


def _text(output: bytes) -> str:
    return output.decode("utf-8", "surrogateescape")
