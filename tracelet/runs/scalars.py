"""Hold the points of a run's series as numpy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tracelet.errors import MissingDependency
from tracelet.records import Scalar

if TYPE_CHECKING:
    import numpy as np

_ROWS = 1 << 16


class Scalars:
    """Points of one or several series, in the order of logging: arrays of the same length.

    `step` is int64 (0 if the program set none), `wall_time` float64 in seconds since the epoch, `value` float64.
    """

    def __init__(
        self,
        names: Sequence[str],
        codes: np.ndarray[Any, Any],
        step: np.ndarray[Any, Any],
        wall_time: np.ndarray[Any, Any],
        value: np.ndarray[Any, Any],
    ) -> None:
        self.names, self.codes = names, codes
        """The distinct tags, and the index of each point's tag in them (int32)."""
        self.step, self.wall_time, self.value = step, wall_time, value

    @property
    def tag(self) -> np.ndarray[Any, Any]:
        """The tag of each point, as an array of str objects."""
        import numpy as np

        return np.array(self.names, dtype=object)[self.codes] if self.names else np.empty(0, dtype=object)

    def to_pandas(self) -> Any:
        """Return a DataFrame with the columns `tag`, `step`, `wall_time` and `value`.

        Raises:
            MissingDependency: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingDependency(
                "to_pandas needs pandas. Install it with: pip install 'tracelet[export]'"
            ) from error
        columns = {"tag": self.tag, "step": self.step, "wall_time": self.wall_time, "value": self.value}
        return pandas.DataFrame(columns)

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        names = self.names[0] if len(self.names) == 1 else f"{len(self.names)} tags"
        return f"<Scalars {names}: {len(self)} points>"


def in_parts(batches: Iterable[Sequence[Scalar]], rows: int = _ROWS) -> Iterator[Scalars]:
    """Convert records to arrays of about `rows` points each. The index of a tag is the same in every part."""
    indexes: dict[str, int] = {}
    waiting: list[Scalar] = []
    for batch in batches:
        waiting += batch
        if len(waiting) >= rows:
            yield _columns(waiting, indexes)
            waiting = []
    if waiting:
        yield _columns(waiting, indexes)


def joined(parts: Iterable[Scalars]) -> Scalars:
    """Join the arrays of `in_parts`."""
    import numpy as np

    found = list(parts)
    if not found:
        return _columns([], {})
    columns = ([getattr(part, name) for part in found] for name in ("codes", "step", "wall_time", "value"))
    return Scalars(found[-1].names, *map(np.concatenate, columns))


def _columns(records: Sequence[Scalar], indexes: dict[str, int]) -> Scalars:
    import numpy as np

    count = len(records)
    tags = [record.tag for record in records]
    for tag in dict.fromkeys(tags):
        indexes.setdefault(tag, len(indexes))
    return Scalars(
        tuple(indexes),
        np.fromiter(map(indexes.__getitem__, tags), np.int32, count),
        np.fromiter([record.step or 0 for record in records], np.int64, count),  # as `shown_step`
        np.fromiter([record.wall_time for record in records], np.float64, count),
        np.fromiter([record.value for record in records], np.float64, count),
    )
