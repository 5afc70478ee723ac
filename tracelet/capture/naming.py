"""Derive a metric name from (root, log dir, tag), and valid names for a file system or vendor; pure functions only.

The rule, version 2. The root is `root_logdir` if given, else `root_of` the first writer's directory: its parent if it
is named for a part of the job, such as train or val. If a writer is in the root, its tags have no prefix. If it is
below the root, the prefix is its path from the root; if it is beside the root, its path from their common parent; if
it is above the root, one ".." per level. Directories are compared as passed: the caller makes them absolute and
resolves links.

    root runs/exp            runs/exp  -> loss            runs/exp/val -> val/loss
    first runs/exp/train     runs/exp/train -> train/loss runs/exp/val -> val/loss

Two series with the same name (the root's own tag "val/loss" and the writer `val` with "loss") stay separate: the
second one gets its `escaped_name`, which separates the directory from the tag.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterator, Sequence

_TRAINING = ("train", "training")
_EVALUATION = (
    "val",
    "valid",
    "validation",
    "validate",
    "dev",
    "holdout",
    "test",
    "testing",
    "eval",
    "evaluation",
    "predict",
)
SPLITS = frozenset(_TRAINING + _EVALUATION)
"""Names of directories that are parts of one experiment, in lower case."""

HPARAMS = "hparams"
"""Directory of an add_hparams without a name of its own."""


def root_of(log_dir: str) -> str:
    """Return the root of a run whose first writer is in `log_dir`, an absolute path or URL."""
    above, name = _split(log_dir)
    return above if name.lower() in SPLITS else log_dir


def is_within(root: str, log_dir: str) -> bool:
    """Return True if `log_dir` is the root or below it."""
    ours = _parts(root)
    return _parts(log_dir)[: len(ours)] == ours


def namespace(root: str, log_dir: str) -> str:
    """Return the prefix of a writer in `log_dir`, "" if it is the root; both are absolute paths or URLs."""
    ours, theirs = _parts(root), _parts(log_dir)
    shared = _shared(ours, theirs)
    below = theirs[shared:]
    if below or shared == len(ours):
        return "/".join(below)
    return "/".join([".."] * (len(ours) - shared))


def metric_name(root: str, log_dir: str, tag: str) -> str:
    """Return the name of the series with this `tag` from a writer in `log_dir`."""
    prefix = namespace(root, log_dir)
    if tag.startswith("hparam/"):  # the usual prefix in calls of add_hparams, which says the same as the directory
        above, _, last = prefix.rpartition("/")
        prefix = above if last == HPARAMS else prefix
    return join(prefix, tag)


def escaped_name(root: str, log_dir: str, tag: str) -> str:
    """Return a unique name for use if `metric_name` is taken: path from the root, "//", tag."""
    ours, theirs = _parts(root), _parts(log_dir)
    shared = _shared(ours, theirs)
    path = [".."] * (len(ours) - shared) + theirs[shared:] or ["."]
    return "/".join(path) + "//" + tag


def join(prefix: str, tag: str) -> str:
    return f"{prefix}/{tag}" if prefix else tag


def tensorboardx_tag(tag: str) -> str:
    """Return `tag` as tensorboardX writes it (tensorboardX/summary.py `_clean_tag`, 2.6)."""
    return re.sub(r"[^-/\w\.]", "_", tag).lstrip("/")


def variants(name: str) -> Iterator[str]:
    """Yield `name`, `name~2`, `name~3`, ... without end."""
    yield name
    yield from (f"{name}~{number}" for number in itertools.count(2))


def unused(name: str, taken: Container[str]) -> str:
    """Return the first of `variants` that is not taken."""
    return next(variant for variant in variants(name) if variant not in taken)


def _split(path: str) -> tuple[str, str]:
    """Return the parent and the last part; the parent keeps its slashes if it is "/", a drive or a URL's scheme."""
    end = max(path.rfind("/"), path.rfind("\\")) + 1
    above = path[:end]
    return above if re.fullmatch(r"([\w+.-]+:)?[/\\]+", above) else above.rstrip("/\\"), path[end:]


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part]


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> int:
    count = 0
    for mine, other in zip(ours, theirs, strict=False):
        if mine != other:
            break
        count += 1
    return count
