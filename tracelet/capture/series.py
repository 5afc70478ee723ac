"""Assign a unique name to each series: apply the rule of `naming` once per (log dir, tag)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

from tracelet.capture import naming


class SeriesNames:
    """Map `names[log_dir][tag]` to a series name, without a lock. A relative directory is resolved at each lookup.

    `earlier` is the root of a resumed run. If the first writer is in or below it, the run keeps its names. `annotate`
    stores facts of the run: "root", and "scalars NAME", the name that a series of add_scalars shares with its siblings.
    """

    def __init__(
        self, root_logdir: str | None, annotate: Callable[[str, str], None], *, earlier: str | None = None
    ) -> None:
        self.root: str | None = None
        self._members: set[str] = set()
        self._earlier = earlier
        self._annotate = annotate
        self._owners: dict[str, tuple[str, str]] = {}
        self._directories: dict[str, Directory] = {}
        self._roots: dict[str, str] = {}
        if root_logdir is not None:
            self._set_root(canonical(root_logdir))

    def __getitem__(self, log_dir: str | os.PathLike[str]) -> Directory:
        path = canonical(log_dir)
        if self.root is None:
            earlier = self._earlier
            has_earlier = earlier is not None and naming.is_within(earlier, path)
            self._set_root(earlier if earlier and has_earlier else naming.root_of(path))
        assert self.root is not None
        return self._directories.setdefault(path, Directory(self, self.root, path))

    def explicit(self, tag: str) -> str:
        """Return the name of a series logged through an `Experiment`, in the root's namespace."""
        return self.claim(tag, "", tag, naming.join(".", "/" + tag))

    def collected(self, tag: str) -> str:
        """Return the name of a series recorded by a collector."""
        return self.claim(tag, "collected", tag, naming.join(".", "/" + tag))

    def claim(self, candidate: str, log_dir: str, tag: str, escaped: str) -> str:
        """Return `candidate` if it is free or already belongs to this series, else a variant of `escaped`."""
        owner = (log_dir, tag)
        names = itertools.chain((candidate,), naming.variants(escaped))
        # setdefault is atomic in the interpreter: two threads cannot both get the name.
        return next(name for name in names if self._owners.setdefault(name, owner) == owner)

    def add_member(self, name: str, main: str) -> None:
        if name not in self._members:
            self._members.add(name)
            self._annotate(f"scalars {name}", main)

    def _set_root(self, path: str) -> None:
        # If two threads create the first writers at once, one of them sets the root for both.
        if self._roots.setdefault("", path) is path:
            self._annotate("root", path)
        self.root = self._roots[""]


class Directory(dict[str, str]):
    """Map the tags of one directory to series names."""

    def __init__(self, names: SeriesNames, root: str, path: str) -> None:
        super().__init__()
        self._names, self._root = names, root
        self.path = path
        self.namespace = naming.namespace(root, path)

    def __missing__(self, tag: str) -> str:
        original, text = plain_text(tag), escaped(tag)
        owner = "" if self.path == self._root else self.path
        candidate = naming.metric_name(self._root, self.path, text)
        name = self._names.claim(candidate, owner, original, naming.escaped_name(self._root, self.path, text))
        self[tag] = name
        return name

    def member(self, main_tag: str, key: str) -> str:
        """Return the name of one series of add_scalars: `main_tag/key`, distinct from a tag with that text."""
        main = naming.join(self.namespace, escaped(main_tag))
        name = self._names.claim(
            naming.join(main, escaped(key)),
            f"{self.path}\0{plain_text(main_tag)}",
            plain_text(key),
            naming.escaped_name(self._root, self.path, f"{escaped(main_tag)}//{escaped(key)}"),
        )
        self._names.add_member(name, main)
        return name


def plain_text(tag: str) -> str:
    """Convert a numpy.str_ or str enum tag to the plain str that TensorBoard uses."""
    return str.__str__(tag)


def escaped(tag: str) -> str:
    """Escape lone surrogates, which tensorboardX accepts but no store can encode as UTF-8."""
    text = plain_text(tag)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def canonical(log_dir: str | os.PathLike[str]) -> str:
    """Resolve a directory to an absolute path without links; return a URL (s3://...) unchanged."""
    log_dir = os.fspath(log_dir)  # tensorboardX's writer without a file returns its argument unchanged
    scheme, separator, path = log_dir.partition("://")
    return scheme + separator + path.rstrip("/") if separator else os.path.realpath(log_dir)
