"""Hold what is known of each wandb run of the program: its names, rows, parameters, tags and files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tracelet.capture import naming
from tracelet.capture.series import SeriesNames, escaped, plain_text
from tracelet.capture.values import params, to_text
from tracelet.capture.wandb.steps import Axes, Rows

_UNSTORED = frozenset({"", "_step", "_runtime", "_timestamp", "_wandb"})
"""Keys that wandb drops from a row or keeps for itself. `_timestamp` is the row's wall time."""


class Names(dict[str, str]):
    """Map the keys of one run to series names; "" for a key that wandb does not store.

    The name of a key is the key with the run's prefix. If a SummaryWriter has that name, "wandb/" precedes it.
    """

    def __init__(self, series: SeriesNames, run_id: str, prefix: str) -> None:
        super().__init__()
        self._series, self._owner, self._prefix = series, f"\0wandb {run_id}", prefix

    def __missing__(self, key: str) -> str:
        name = self[key] = "" if key in _UNSTORED else self.claim(key, plain_text(key))
        return name

    def claim(self, name: str, key: str) -> str:
        """Return the series name of a value that wandb knows as `key`."""
        candidate = self._prefix + escaped(name)
        return self._series.claim(candidate, self._owner, key, naming.join("wandb", candidate))

    def part(self, name: str) -> str:
        """Return the series name of a part of a value, such as an image in a list."""
        return self._series.claim(name, self._owner, f"\0part {name}", naming.join("wandb", name))


class SavedFile(NamedTuple):
    """A recorded file; time and size tell a changed one without reading it."""

    path: Path
    modified: int
    size: int
    digest: str


class WandbRun:
    """One wandb run of the program."""

    def __init__(self, run: Any, names: Names, prefix: str, first_step: int) -> None:
        self.run, self.names, self.prefix = run, names, prefix
        self.is_new = True
        self.rows, self.axes = Rows(first_step), Axes()
        self.saved: dict[str, SavedFile] = {}
        """Files of `save`, by name: wandb uploads a file again if it changes."""
        self._params: dict[str, Any] = {}
        self._tags: set[str] = set()

    def members(self, data: Mapping[str, Any], outer: tuple[str, ...] = ()) -> Iterator[tuple[str, str, Any]]:
        """Yield wandb's key, the series name and the value of each item. A key in a nested dict is `outer.inner`."""
        for key, value in data.items():
            path = (*outer, str(key))
            if isinstance(value, Mapping) and value:
                yield from self.members(value, path)
            elif not outer:
                if name := self.names[key]:
                    yield key, name, value
            else:
                # Another series than that of a key "outer.inner", although it has the same name.
                dotted = ".".join(path)
                yield dotted, self.names.claim(dotted, f"\0{dotted}"), value

    def new_params(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters that are new or changed, flattened and with the run's prefix."""
        own = {key: value for key, value in values.items() if not str(key).startswith("_")}
        found = {self.prefix + key: value for key, value in params(own).items()}
        changed = {key: value for key, value in found.items() if self._is_new(key, value)}
        self._params |= changed
        return changed

    def _is_new(self, key: str, value: Any) -> bool:
        known = self._params.get(key, self)
        return type(known) is not type(value) or bool(known != value)

    def new_tags(self, tags: Any) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(text for text in map(to_text, tags or ()) if text not in self._tags))
        self._tags |= set(found)
        return found


class WandbRuns:
    """The wandb runs of the program. The first one has bare names; the names of each later one begin with its own."""

    def __init__(self, series: SeriesNames) -> None:
        self._series = series
        self._states: dict[Any, WandbRun] = {}
        self._owners: dict[str, str] = {}

    def get(self, run: Any) -> WandbRun | None:
        return self._states.get(run)

    def add(self, run: Any, first_step: int) -> WandbRun:
        """Return the state of a run. Two threads get the same one."""
        run_id = to_text(run.id)
        prefix = self._prefix(to_text(run.name or run_id), run_id)
        new = WandbRun(run, Names(self._series, run_id, prefix), prefix, first_step)
        return self._states.setdefault(run, new)

    def remove(self, run: Any) -> WandbRun | None:
        """Forget a finished run. Its prefix stays taken, and is that of a run with the same id."""
        return self._states.pop(run, None)

    def states(self) -> list[WandbRun]:
        return list(self._states.values())

    def _prefix(self, name: str, run_id: str) -> str:
        variants = naming.variants(f"{name}-{run_id}")
        for prefix in itertools.chain(["", f"{name}/"], (f"{variant}/" for variant in variants)):
            # setdefault is atomic in the interpreter: two threads cannot both get the prefix.
            if self._owners.setdefault(prefix, run_id) == run_id:
                return prefix
        raise AssertionError
