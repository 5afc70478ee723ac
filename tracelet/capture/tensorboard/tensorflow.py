"""Decode summaries as TensorFlow 2 writes them: each is a tensor, and its plugin defines the meaning."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from tracelet.capture.tensorboard.tensors import to_array, to_rows

RUN_METADATA = frozenset({"graph_run_metadata", "graph_run_metadata_graph", "graph_tagged_run_metadata"})
"""Plugins whose value is a RunMetadata (tensorboard/plugins/graph/metadata.py)."""

Buckets = tuple[tuple[float, ...], tuple[float, ...], float, float, float, float, float]


def histogram(tensor: Any) -> Buckets:
    """Return limits, counts, minimum, maximum and number of values. Their sums, which are not written, are NaN.

    Raises:
        ArithmeticError, LookupError, TypeError, ValueError: the rows are not adjacent buckets (left, right, count).
    """
    rows = to_array(tensor)[1].astype(float).reshape(-1, 3).tolist()
    if any(row[1] != following[0] for row, following in itertools.pairwise(rows)):
        raise ValueError("the buckets of a histogram are not adjacent")
    counts = tuple(row[2] for row in rows)
    total = math.nan if any(counts) else 0.0
    low, high = (rows[0][0], rows[-1][1]) if rows else (math.nan, math.nan)
    return tuple(row[1] for row in rows), counts, low, high, sum(counts), total, total


def images(tensor: Any) -> tuple[int, int, list[bytes]]:
    """Return width, height and the encoded images.

    Raises:
        ValueError: there is no width or height.
    """
    width, height, *encoded = tensor.string_val
    return _pixels(width), _pixels(height), encoded


def clips(tensor: Any) -> Iterator[tuple[bytes, float]]:
    """Yield the data and sample rate of each WAV. The rows of the tensor may also have labels.

    Raises:
        ValueError: a clip is not a WAV, or has a label, for which no record has a place.
    """
    for data, *labels in to_rows(tensor) or [[data] for data in tensor.string_val]:
        if any(labels) or not (data.startswith(b"RIFF") and data[12:16] == b"fmt "):
            raise ValueError("the audio is not a WAV file without label")
        yield data, float(int.from_bytes(data[24:28], "little"))


def graph_of(meta_graph: bytes) -> bytes:
    """Return the serialized GraphDef of a serialized MetaGraphDef."""
    from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

    return bytes(MetaGraphDef.FromString(meta_graph).graph_def.SerializeToString(deterministic=True))


def _pixels(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) < 10 else 0
