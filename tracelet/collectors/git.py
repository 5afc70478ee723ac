"""Which commit a program runs. git itself is asked, by reading commands alone.

A repository's configuration can name programs: hooks, a file system monitor, content filters, external diffs, text
converters. None of them is run. Nothing is locked or written, nothing is asked of a person or a network.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracelet.collectors.base import Found, Left
from tracelet.redaction import passwords_in_url
from tracelet.settings import environment_of

_COMMAND = (
    *("git", "--no-pager", "--literal-pathspecs"),
    *("-c", "core.fsmonitor=", "-c", f"core.hooksPath={os.devnull}", "-c", "core.sshCommand=false"),
    # Otherwise `git diff` locks and rewrites the index where a file was touched.
    *("-c", "diff.autoRefreshIndex=false", "-c", "submodule.recurse=false"),
)
# Of the program's own variables git gets what it takes to find itself, its person's configuration, and its limits.
_KEPT = (
    *("PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "USERPROFILE"),
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),
    *("GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM"),
)
_SAID = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "none",  # a partial clone would fetch what a diff needs
    "GIT_NO_LAZY_FETCH": "1",
    "LC_ALL": "C",
}
_CONFIGURED = r"^(remote\..*\.url|branch\..*\.remote|filter\..*\.(clean|process))$"
_SUBMODULES = "--ignore-submodules=dirty"  # git would begin another git in each, with that one's configuration
_BINARY = re.compile(rb"^Binary files .* differ$", re.MULTILINE)  # what stands in a file has a sign before it
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

_MOST_OUTPUT = 4 << 20
MOST_DIFF = 4 << 20
"""Bytes that are kept of a diff."""
_MOST_PACKED = 16 << 20
MOST_FILES = 200
"""Changed files that are looked at one by one, and that a diff holds."""
_LOOK_EVERY = 0.05
_DYING = 1.0


class _Unanswered(Exception):
    """git failed at it, or its time is over."""


def read(directory: Path, left: Left, *, facts: bool = True, diff: bool = False) -> Found | None:
    """The commit that is checked out around `directory`; None where there is no git, or no repository.

    What git did not tell, or not in time, is None among the facts.
    """
    git = _Git(directory, left)
    place: list[str] = []
    with contextlib.suppress(_Unanswered):
        place = git.place()
    if not place:
        return None
    git.directory = Path(place[0])
    commit = place[1] if len(place) > 1 and _COMMIT.fullmatch(place[1]) else None
    branch = place[2].removeprefix("refs/heads/") if len(place) > 2 and place[2] != "HEAD" else None
    told: dict[str, Any] = {"commit": commit, "branch": branch, "dirty": None, "remote": None}
    files: dict[str, bytes] = {}
    secrets: list[str] = []
    with contextlib.suppress(_Unanswered):
        configured = git.configured()
        url = _url(configured, branch)
        secrets = passwords_in_url(url)
        told["remote"] = None if url is None else bare_url(url)
        if commit is not None and git.switch_off(configured):
            changed = git.changed()
            told["dirty"] = bool(changed)
            if diff and changed:
                files["git.diff"] = git.diff(changed)
    return Found(facts={"git": told} if facts else {}, files=files, secrets=secrets)


def bare_url(url: str) -> str | None:
    """A remote's address without credentials; None where it cannot be told what of it is one."""
    if re.match(r"[\w+.\-]+::", url):  # a helper program's own words
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
    user = "git@" if user == "git" else ""  # everybody's
    return f"{scheme}{mark}{user}{host}{slash}{path}"


def _url(configured: Sequence[tuple[str, str]], branch: str | None) -> str | None:
    """The address of the branch's remote, else of `origin`, else of the first there is."""
    urls: dict[str, str] = {}
    for key, value in configured:
        if key.startswith("remote."):
            urls.setdefault(key.removeprefix("remote.").removesuffix(".url"), value)
    own = dict(configured).get(f"branch.{branch}.remote", "origin")
    return urls.get(own) or urls.get("origin") or next(iter(urls.values()), None)


class _Git:
    """Reading commands in one directory; `left()` seconds are left for all of them."""

    def __init__(self, directory: Path, left: Left) -> None:
        self.directory = directory
        self._left = left
        self._drivers: list[str] = []

    def place(self) -> list[str]:
        """The repository's folder, its commit, and its branch's full name: the first alone before any commit."""
        said = self._run("rev-parse", "--show-toplevel", "HEAD", "--symbolic-full-name", "HEAD", may_fail=True)
        return _text(said).splitlines()

    def configured(self) -> list[tuple[str, str]]:
        """Remotes, the branches' remotes, and content filters: nothing else of the configuration is read."""
        entries = _text(self._run("config", "-z", "--get-regexp", _CONFIGURED, may_fail=True)).split("\0")
        return [(key, value) for key, _, value in (one.partition("\n") for one in entries if one)]

    def switch_off(self, configured: Sequence[tuple[str, str]]) -> bool:
        """Content filters are programs of somebody else; whether all of them can be switched off."""
        drivers = {key.split(".", 1)[1].rpartition(".")[0] for key, _ in configured if key.startswith("filter.")}
        self._drivers = sorted(drivers)
        return not any("=" in driver for driver in drivers)

    def changed(self) -> list[str]:
        """Files of the commit that are others now. One behind a content filter cannot be compared without it."""
        said = self._run("status", "--porcelain", "-z", "--untracked-files=no", "--no-renames", _SUBMODULES)
        changed = [one[3:] for one in _text(said).split("\0") if len(one) > 3]
        if changed and self._drivers:
            told = _text(self._run("check-attr", "-z", "filter", "--", *changed[:MOST_FILES])).split("\0")
            filtered = {path for path, value in zip(told[::3], told[2::3], strict=False) if value in self._drivers}
            changed = [path for path in changed if path not in filtered]
        return changed

    def diff(self, changed: Sequence[str]) -> bytes:
        """Against the commit, index and working tree together; at most so many files and bytes of it, said on top."""
        own = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--submodule=short", _SUBMODULES)
        named = ("--src-prefix=a/", "--dst-prefix=b/", "HEAD", "--", *changed[:MOST_FILES])
        found = self._run("diff", *own, *named, most=MOST_DIFF)
        notes = []
        if len(changed) > MOST_FILES:
            notes.append(f"# The first {MOST_FILES} of {len(changed)} changed files.\n")
        if _BINARY.search(found):
            whole = self._with_binaries(own, named, changed[:MOST_FILES])
            if whole is None:
                notes.append("# Changes of binary files are not in it: `git apply --exclude=FILE` takes the rest.\n")
            else:
                found = whole
        if len(found) > MOST_DIFF:
            notes.append(f"# Cut after {MOST_DIFF} bytes.\n")
        return "".join(notes).encode() + found[:MOST_DIFF]

    def _with_binaries(self, own: Sequence[str], named: Sequence[str], changed: Sequence[str]) -> bytes | None:
        """Not of large files: git packs each as a whole, in seconds and gigabytes, before it says the first byte."""
        with contextlib.suppress(_Unanswered, OSError):
            before = _text(self._run("ls-tree", "-z", "-l", "HEAD", "--", *changed)).split("\0")
            sizes = [int(words[3]) for words in map(str.split, before) if len(words) > 3 and words[3].isdecimal()]
            sizes += [path.stat().st_size for path in (self.directory / one for one in changed) if path.is_file()]
            if sum(sizes) <= _MOST_PACKED:
                found = self._run("diff", "--binary", *own, *named, most=MOST_DIFF)
                return found if len(found) <= MOST_DIFF else None
        return None

    def _run(self, *command: str, may_fail: bool = False, most: int = _MOST_OUTPUT) -> bytes:
        """What the command prints; where that is more than `most` bytes, a little more than those."""
        off = [
            word
            for driver in self._drivers
            for key in ("clean=", "process=", "required=false")
            for word in ("-c", f"filter.{driver}.{key}")
        ]
        if self._left() <= 0:
            raise _Unanswered
        try:
            process = subprocess.Popen(
                [*_COMMAND, *off, *command],
                cwd=self.directory,
                env={**environment_of(_KEPT), **_SAID},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the program; and what git began ends with it
            )
        except OSError as error:  # no git, or no directory any more
            raise _Unanswered from error
        try:
            found, ended = self._read(process, most)
            if ended and process.wait(max(0.0, self._left())) and not may_fail:
                raise _Unanswered
        except subprocess.TimeoutExpired as error:
            raise _Unanswered from error
        finally:
            _end(process)
        return found

    def _read(self, process: subprocess.Popen[bytes], most: int) -> tuple[bytes, bool]:
        """What it printed, and whether that is all."""
        found = bytearray()
        assert process.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            while len(found) <= most:
                left = self._left()
                if left <= 0:
                    raise _Unanswered
                if ready.select(min(left, _LOOK_EVERY)):
                    piece = os.read(process.stdout.fileno(), 1 << 16)
                    if not piece:
                        return bytes(found), True
                    found += piece
        return bytes(found), False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let go of it, also where it has not ended by itself."""
    if process.stdout is not None:
        process.stdout.close()
    if process.returncode is None:  # not waited for yet: its number is its own
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in a dead file system
            process.wait(_DYING)


def _text(said: bytes) -> str:
    return said.decode("utf-8", "surrogateescape")
