"""Convert one run of an Aim repository, read from its own two trees."""

from __future__ import annotations

import heapq
import operator
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from tracelet.backends.aim.errors import translated
from tracelet.backends.aim.run import ABOUT, PARAMS, SUMMARY
from tracelet.backends.aim.series import MORE
from tracelet.backends.aim.values import flat, unescaped
from tracelet.capture.values import to_plain
from tracelet.errors import BackendError
from tracelet.importer.aim.values import named, records_of
from tracelet.importer.past_run import PastRun
from tracelet.records import Artifact, File, Params, Record, Summary

_SYSTEM_PARAMS = "__system_params"
"""The environment of the program, as Aim collects it."""


_CONSOLE = "logs"


class _Point(NamedTuple):
    step: int
    epoch: int | None
    wall_time: float
    value: Any


class RunReader:
    """Read one run, without Aim's index, which has a run only after `aim up`."""

    def __init__(self, repo: Any, run: PastRun) -> None:
        self._repo, self._run = repo, run

    def records(self, started: float) -> Iterator[Record]:
        """Yield the records of the run, and set its end."""
        run = self._run
        try:
            with translated():
                meta = self._tree("meta").subtree(("meta", "chunks", run.id)).collect()
            if not isinstance(meta, dict):
                return
            attributes = {str(key): value for key, value in (meta.get("attrs") or {}).items()}
            yield from self._facts(attributes, started)
            names: dict[str, None] = {}
            series = [
                self._series(idx, meta["contexts"][idx], name, trace, ABOUT in attributes, names)
                for idx, traces in (meta.get("traces") or {}).items()
                for name, trace in traces.items()
                if name != _CONSOLE
            ]
            yield from heapq.merge(*series, key=operator.attrgetter("wall_time"))
            yield from self._console(meta, started)
            yield from self._artifacts(meta, started)
        except BackendError as error:
            run.damaged(f"cannot be read to its end: {error.reason}")
            return
        run.ended = meta.get("end_time")
        if run.ended is not None:
            run.status, run.exit_code = "finished", 0

    def _tree(self, name: str) -> Any:
        return self._repo.request_tree(name, self._run.id, read_only=True, skip_read_optimization=True)

    def _facts(self, attributes: dict[str, Any], started: float) -> Iterator[Record]:
        """Yield the parameters. Those in `run["hparams"]` have no prefix, unless another has that name."""
        is_ours = ABOUT in attributes
        own = {key: value for key, value in attributes.items() if key not in (PARAMS, ABOUT, _SYSTEM_PARAMS)}
        summary = own.pop(SUMMARY, None) if is_ours else None
        values = flat(to_plain(own))
        params = attributes.get(PARAMS)
        for name, value in flat(to_plain(params if isinstance(params, Mapping) else {})).items():
            values[f"{PARAMS}.{name}" if name in values else name] = value
        if params is not None and not isinstance(params, Mapping):
            values[PARAMS] = to_plain(params)
        if values:
            yield Params(values, started)
        if isinstance(summary, Mapping) and summary:
            yield Summary(flat(to_plain(summary)), started)

    def _series(
        self, idx: int, context: dict[str, Any], name: str, trace: Any, is_ours: bool, names: dict[str, None]
    ) -> Iterator[Record]:
        facts = dict(context)
        repeat = facts.pop("repeat", None) if is_ours else None
        exact = facts.pop("step", None) if is_ours else None
        if is_ours:
            facts.pop("kind", None)
        tag, writer = named(unescaped(name), {key: _text(value) for key, value in facts.items()})
        if repeat is None and exact is None:
            while tag in names:  # "val/loss", and "loss" in the subset "val"
                head, _, last = tag.rpartition("/")
                tag = f"{head}//{last}"
            names[tag] = None
        with translated():
            points = self._points(idx, name, trace)
        for point in points:
            step = point.epoch if repeat == MORE else point.step
            step = int(exact) if exact is not None else step
            yield from records_of(tag, name, facts, point.value, step, point.wall_time, writer, self._run)

    def _points(self, idx: int, name: str, trace: Any) -> list[_Point]:
        """Return the points of a sequence in the order of time. Since Aim 3.15, those of numbers have hashed keys."""
        is_hashed = trace["version"] == 2
        path = (*(("seqs", "v2") if is_hashed else ("seqs",)), "chunks", self._run.id, idx, name)
        tree = self._tree("seqs").subtree(path)
        columns = {key: dict(tree.subtree(key).items()) for key in ("val", "time", "epoch")}
        steps = dict(tree.subtree("step").items()) if is_hashed else {key: key for key in columns["val"]}
        missing = sum(key not in columns["time"] or key not in steps for key in columns["val"])
        if missing:
            self._run.damaged(f"{name}: {missing} points have no step or time")
        points = [
            _Point(int(steps[key]), columns["epoch"].get(key), columns["time"][key], value)
            for key, value in columns["val"].items()
            if key in columns["time"] and key in steps
        ]
        return sorted(points, key=operator.attrgetter("wall_time"))

    def _console(self, meta: dict[str, Any], started: float) -> Iterator[Record]:
        """Yield the output of the program, of which Aim has each line as a point, as a file."""
        lines = []
        for idx, traces in (meta.get("traces") or {}).items():
            if _CONSOLE in traces:
                with translated():
                    points = sorted(self._points(idx, _CONSOLE, traces[_CONSOLE]), key=operator.attrgetter("step"))
                    lines += [str(point.value.storage["data"].load()) for point in points]
        if lines:
            with tempfile.TemporaryDirectory(prefix="tracelet-") as folder:
                path = Path(folder, "console.log")
                path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace")
                yield Artifact(path.name, (File(path.name, "", 0, str(path)),), started)

    def _artifacts(self, meta: dict[str, Any], started: float) -> Iterator[Record]:
        """Yield the artifacts in the run's own folder. A repository may name any other file of this machine."""
        folder = _folder(meta.get("artifacts_uri") or "", self._run.id)
        for name in meta.get("artifacts") or {}:
            if folder is None:
                self._run.damaged(f"artifact {name}: not in a local folder")
            elif path := self._run.file_below(folder, name):
                yield Artifact(name, (File(PurePosixPath(name).name, "", 0, str(path)),), started)


def _folder(uri: str, hash: str) -> Path | None:
    parts = urlsplit(uri)
    return Path(unquote(parts.path), hash) if parts.scheme == "file" else None


def _text(value: Any) -> str:
    return unescaped(value) if isinstance(value, str) else str(value)
