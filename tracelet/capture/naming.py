"""Pure functions from (root, log dir, tag) to a metric name, and from a name to what a file system or vendor can hold.

The rule, version 1. The root is `root_logdir` if given, else the first writer's directory. A writer in the root has
bare tags. A writer below the root is prefixed by its path from the root; a writer beside it by its path from their
common parent; a writer above it by as many ".." as lead there. Directories are compared as given: the caller makes
them absolute and resolves links.

    root runs/exp            runs/exp  -> loss      runs/exp/val -> val/loss
    root runs/exp/train      runs/exp/train -> loss runs/exp/val -> val/loss

Two series that would get one name (the root's own tag "val/loss" and the writer `val` with "loss") stay two: the one
seen second gets its `escaped_name`, which spells the directory and the tag apart.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterator, Sequence


def namespace(root: str, log_dir: str) -> str:
    """The prefix of a writer in `log_dir`, "" for the root; both are absolute paths or URLs."""
    ours, theirs = _parts(root), _parts(log_dir)
    shared = _shared(ours, theirs)
    below = theirs[shared:]
    if below or shared == len(ours):
        return "/".join(below)
    return "/".join([".."] * (len(ours) - shared))


def metric_name(root: str, log_dir: str, tag: str) -> str:
    """The name of the series that a writer in `log_dir` calls `tag`."""
    return join(namespace(root, log_dir), tag)


def escaped_name(root: str, log_dir: str, tag: str) -> str:
    """The name for a series whose `metric_name` is another's: path from the root, "//", tag. One for each pair."""
    ours, theirs = _parts(root), _parts(log_dir)
    shared = _shared(ours, theirs)
    path = [".."] * (len(ours) - shared) + theirs[shared:] or ["."]
    return "/".join(path) + "//" + tag


def join(prefix: str, tag: str) -> str:
    return f"{prefix}/{tag}" if prefix else tag


def tensorboardx_tag(tag: str) -> str:
    """What tensorboardX writes for `tag` (tensorboardX/summary.py `_clean_tag`, 2.6)."""
    return re.sub(r"[^-/\w\.]", "_", tag).lstrip("/")


def variants(name: str) -> Iterator[str]:
    """`name`, `name~2`, `name~3`, ... without end."""
    yield name
    yield from (f"{name}~{number}" for number in itertools.count(2))


def unused(name: str, taken: Container[str]) -> str:
    """The first of `variants` that is not taken."""
    return next(one for one in variants(name) if one not in taken)


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part]


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> int:
    count = 0
    for mine, other in zip(ours, theirs, strict=False):
        if mine != other:
            break
        count += 1
    return count
