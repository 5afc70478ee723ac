"""Names and files of a run as the tracker of ezpz gives them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from tracelet import records as r
from tracelet.backends.base import Batch
from tracelet.backends.file_names import safe_path
from tracelet.backends.presentation import read_payload

FACTS = "ezpz"
"""The writer of parameters that describe the process, not the program's config."""
AGGREGATES = ("/mean", "/max", "/min", "/std")
# A batch has at most 4096 records.
_MAX_CALLS = 10_000
_Call = tuple[int | None, float]


class EzpzLayout:
    """Rename records, for the life of a backend object.

    Parameters begin with `config.`, those of the writer `ezpz` with `ezpz.`. A metric `x` becomes `x/local` if
    `x/mean`, `x/max`, `x/min` or `x/std` came before it in the same call. A table is also the file `tables/<tag>.csv`.

    The records of one call have the same step and wall time. A batch may end within a call, and may be repeated.
    """

    def __init__(self) -> None:
        self._aggregated: dict[_Call, set[str]] = {}

    def renamed(self, batch: Batch) -> Batch:
        """Return the batch with the names of this layout."""
        records = [self._metric(x) if isinstance(x, r.Scalar) else _with_param_names(x) for x in batch]
        if len(self._aggregated) > _MAX_CALLS:
            for call in list(self._aggregated)[: -_MAX_CALLS // 2]:
                del self._aggregated[call]
        return Batch(records, batch.numbers)

    def _metric(self, record: r.Scalar) -> r.Scalar:
        call = record.step, record.wall_time
        name, _, last = record.tag.rpartition("/")
        if name and f"/{last}" in AGGREGATES:
            self._aggregated.setdefault(call, set()).add(name)
        if record.tag in self._aggregated.get(call, ()):
            return msgspec.structs.replace(record, tag=f"{record.tag}/local")
        return record


def _with_param_names(record: r.Record) -> r.Record:
    if not isinstance(record, r.Params):
        return record
    if record.writer == FACTS:
        # Some have the prefix in every backend.
        names = {name: "ezpz." + re.sub("^ezpz[._]", "", name) for name in record.values}
        values: Mapping[str, Any] = {names[name]: value for name, value in record.values.items()}
    else:
        values = {f"config.{name}": value for name, value in record.values.items()}
    return msgspec.structs.replace(record, values=values)


def table_file(record: r.Table) -> tuple[str, bytes]:
    """Return the path and the CSV text of a table.

    Raises:
        OSError, ValueError: the payload is missing or invalid.
    """
    table = json.loads(read_payload(record.data))
    text = io.StringIO(newline="")
    out = csv.writer(text)
    out.writerow(table["columns"])
    out.writerows(table["rows"])
    return f"tables/{safe_path(record.tag)}.csv", text.getvalue().encode("utf-8", "backslashreplace")
