"""Which name each series got: `naming`'s rule applied once per (log dir, tag), and no name given twice."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

from tracelet.capture import naming


class SeriesNames(dict[str, "Directory"]):
    """`names[log_dir][tag]` is the series' name. Two dictionary look-ups on the hot path, and no lock anywhere.

    `earlier` is the root of the run that is gone on with: a first writer in it or below it finds its names again.
    """

    def __init__(self, root_logdir: str | None, on_root: Callable[[str], None], *, earlier: str | None = None) -> None:
        super().__init__()
        self.root: str | None = None
        self._earlier = earlier
        self._on_root = on_root
        self._owners: dict[str, tuple[str, str]] = {}
        self._directories: dict[str, Directory] = {}
        self._roots: dict[str, str] = {}
        if root_logdir is not None:
            self._set_root(canonical(root_logdir))

    def __missing__(self, log_dir: str) -> Directory:
        return self.meet(log_dir)

    def meet(self, log_dir: str) -> Directory:
        """Look at a directory afresh: a relative one may lie elsewhere since the program changed its own."""
        return self._enter(log_dir, canonical(log_dir))

    def alias(self, log_dir: str, path: str) -> None:
        """Name what is in `log_dir` as if it stood in `path` (add_hparams names a directory after the clock)."""
        self._enter(log_dir, canonical(path))

    def explicit(self, tag: str) -> str:
        """The name of a series that the program logs through an `Experiment`: the root's namespace."""
        return self.claim(tag, "", tag, naming.join(".", "/" + tag))

    def collected(self, tag: str) -> str:
        """The name of a series that no program logs."""
        return self.claim(tag, "collected", tag, naming.join(".", "/" + tag))

    def claim(self, candidate: str, log_dir: str, tag: str, escaped: str) -> str:
        """`candidate` if it is free or already this series' own, else `escaped`."""
        owner = (log_dir, tag)
        names = itertools.chain((candidate,), naming.variants(escaped))
        # setdefault is one step for the interpreter: two threads cannot both get the name.
        return next(name for name in names if self._owners.setdefault(name, owner) == owner)

    def _enter(self, log_dir: str, path: str) -> Directory:
        if self.root is None:
            earlier = self._earlier
            self._set_root(earlier if earlier is not None and f"{path}/".startswith(f"{earlier}/") else path)
        assert self.root is not None
        directory = self._directories.setdefault(path, Directory(self, self.root, path))
        self[log_dir] = directory
        return directory

    def _set_root(self, path: str) -> None:
        # Of two threads that make the first writers at once, one gives the root to both.
        if self._roots.setdefault("", path) is path:
            self._on_root(path)
        self.root = self._roots[""]


class Directory(dict[str, str]):
    """The names of one directory's tags."""

    def __init__(self, book: SeriesNames, root: str, path: str) -> None:
        super().__init__()
        self._book, self._root = book, root
        self.path = path
        self.namespace = naming.namespace(root, path)

    def __missing__(self, tag: str) -> str:
        said, text = plain_text(tag), spelled(tag)
        owner = "" if self.path == self._root else self.path
        name = self._book.claim(
            naming.join(self.namespace, text), owner, said, naming.escaped_name(self._root, self.path, text)
        )
        self[tag] = name
        return name

    def member(self, main_tag: str, key: str) -> str:
        """The name of one series of add_scalars: `main_tag/key`, another series than the tag spelled so."""
        tag = naming.join(spelled(main_tag), spelled(key))
        return self._book.claim(
            naming.join(self.namespace, tag),
            f"{self.path}\0{plain_text(main_tag)}",
            plain_text(key),
            naming.escaped_name(self._root, self.path, f"{spelled(main_tag)}//{spelled(key)}"),
        )


def plain_text(tag: str) -> str:
    """A tag that is a numpy.str_ or an enum as the str that it is to TensorBoard."""
    return str.__str__(tag)


def spelled(tag: str) -> str:
    """The tag in letters that UTF-8 has: tensorboardX takes a lone surrogate, which no store could keep."""
    text = plain_text(tag)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def canonical(log_dir: str | os.PathLike[str]) -> str:
    """A directory as an absolute path without links; a URL (s3://...) as it is."""
    log_dir = os.fspath(log_dir)  # tensorboardX's writer without a file tells what it was given
    if "://" in log_dir:
        return log_dir.rstrip("/")
    return os.path.realpath(log_dir)
