"""The run's summary: its final figures, as the program says them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tracelet.capture import values as snapshot
from tracelet.errors import TraceletError
from tracelet.records import Record, Summary


class Summaries(Mapping[str, Any]):
    """`experiment.summary`: names to plain values, of which a later one takes the place of an earlier.

    Reads as what this process has said; backends have what earlier processes of the run said, too.
    """

    __slots__ = ("_said", "_submit")

    def __init__(self, submit: Callable[[Record], None]) -> None:
        self._submit = submit
        self._said: dict[str, Any] = {}

    def __setitem__(self, name: str, value: Any) -> None:
        """Say one figure: a number, a word, None, or a list or dict of those; `{"val": {"acc": 1}}` is `val.acc`."""
        self.update({name: value})

    def update(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **more: Any) -> None:
        """Say several at once.

        Raises:
            TraceletError: what is given is no dict of names and values.
        """
        try:
            given = dict(values, **more)
        except (TypeError, ValueError) as error:
            raise TraceletError(f"summary.update takes a dict of figures, not {values!r}") from error
        wrong = next((name for name in given if not isinstance(name, str)), None)
        if wrong is not None:
            raise TraceletError(f"the name of a figure is a str, not {wrong!r}")
        figures = snapshot.params(given)
        if figures:
            self._said |= figures
            self._submit(Summary(figures, time.time()))

    def __getitem__(self, name: str) -> Any:
        return self._said[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._said))

    def __len__(self) -> int:
        return len(self._said)

    def __repr__(self) -> str:
        return repr(self._said)
