"""Define histograms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec

from tracelet.capture.media import histogram
from tracelet.compat.wandb.base import Entry, Value, to_array


class Histogram(Value):
    """The values of a sequence in bins, or counts and edges from `numpy.histogram`.

    Raises:
        ValueError: there are more than 512 bins, the edges do not match the counts, or a value is not finite.
    """

    MAX_LENGTH: ClassVar[int] = 512

    _log_type = "histogram"

    def __init__(self, sequence: Any = None, np_histogram: Any = None, num_bins: Any = 64) -> None:
        values = None
        if np_histogram:
            if len(np_histogram) != 2:
                raise ValueError(f"np_histogram must be (counts, edges), got {len(np_histogram)} items")
            counts, edges = np_histogram
        else:
            import numpy as np

            values = to_array([] if sequence is None else sequence)
            counts, edges = np.histogram(values, bins=num_bins)
        self.histogram = counts.tolist() if hasattr(counts, "tolist") else counts
        self.bins = edges.tolist() if hasattr(edges, "tolist") else edges
        if len(self.histogram) > self.MAX_LENGTH:
            raise ValueError(f"a histogram must have at most {self.MAX_LENGTH} bins, got {len(self.histogram)}")
        if len(self.histogram) + 1 != len(self.bins):
            raise ValueError(
                f"a histogram must have one more edge than counts, got {len(self.bins)} edges and "
                f"{len(self.histogram)} counts"
            )
        record = histogram(None, 0, (self.histogram, self.bins))
        if values is not None and values.size:
            reals = values.astype(float).reshape(-1)
            record = msgspec.structs.replace(
                record,
                minimum=float(reals.min()),
                maximum=float(reals.max()),
                total=float(reals.sum()),
                sum_squares=float(reals @ reals),
            )
        self._record = record

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        yield msgspec.structs.replace(self._record, tag=name, step=step, wall_time=wall_time)

    def summary(self) -> dict[str, Any]:
        return {"_type": self._log_type, "values": self.histogram, "bins": self.bins}

    def to_json(self, run: Any = None) -> dict[str, Any]:
        return self.summary()
