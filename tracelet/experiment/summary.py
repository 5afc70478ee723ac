"""Hold the run's summary: its final metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tracelet.capture import values as snapshot
from tracelet.errors import TraceletError
from tracelet.guard import shown
from tracelet.records import Record, Summary


class Summaries(Mapping[str, Any]):
    """Map names to plain values (`experiment.summary`). A later value replaces an earlier one.

    Reading returns only the values of this process. Backends also have those of earlier processes of the run.
    """

    __slots__ = ("_submit", "_values")

    def __init__(self, submit: Callable[[Record], None]) -> None:
        self._submit = submit
        self._values: dict[str, Any] = {}

    def __setitem__(self, name: str, value: Any) -> None:
        """Set one value: a number, str, bool, None, list or dict. `{"val": {"acc": 1}}` sets `val.acc`."""
        self.update({name: value})

    def update(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **more: Any) -> None:
        """Set several values.

        Raises:
            TraceletError: `values` is not a dict of names and values.
        """
        try:
            new_values = dict(values, **more)
        except (TypeError, ValueError) as error:
            raise TraceletError(f"summary.update: values must be a dict of metrics, got {shown(values)}") from error
        invalid = next((name for name in new_values if not isinstance(name, str)), None)
        if invalid is not None:
            raise TraceletError(f"summary: a name must be a str, got {shown(invalid)}")
        flat_values = snapshot.params(new_values)
        if flat_values:
            self._values |= flat_values
            self._submit(Summary(flat_values, time.time()))

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)
