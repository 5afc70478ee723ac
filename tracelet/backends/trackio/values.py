"""Convert names, times and records to the forms that Trackio stores. Trackio is not imported."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, TypeAlias
from urllib.parse import quote

from tracelet import records as r
from tracelet.backends import presentation as p

# Keys of a run's configuration, for records that have no other place in Trackio.
SUMMARY, TAGS, NOTES = "summary", "tags", "notes"

# Stores a file under a name, and returns its path in Trackio's folder `media`.
Put: TypeAlias = Callable[[str, r.Payload], str]

# `trackio.log` renames the first six (trackio/utils.py, RESERVED_KEYS). The dashboard replaces the others.
_RESERVED = {"project", "run", "timestamp", "step", "time", "metrics", "run_id", "series_key", "data_type", "x_axis"}
_READABLE = " !#$&'()*+,/:;=?@[]{}|^`<>\"\\"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0  # years 1 to 9999
_MOST_BINS, _MOST_ROWS = 512, 1000
_VIDEOS = ("gif", "mp4", "webm")


@functools.lru_cache(maxsize=4096)
def metric_name(tag: str) -> str:
    """Return a valid metric name: the tag, or "~" and the tag with percent escapes."""
    return _escaped(tag, not tag or tag in _RESERVED or tag.startswith("__"))


def param_name(name: str) -> str:
    """Return a valid key of a run's configuration, as `metric_name`. Trackio uses keys with "_" itself."""
    return _escaped(name, name in (SUMMARY, TAGS, NOTES) or name.startswith("_"))


def _escaped(text: str, is_reserved: bool) -> str:
    if is_reserved or text.startswith("~") or to_plain(text) != text:
        return "~" + quote(text, safe=_READABLE, errors="surrogatepass")
    return text


def artifact_name(name: str, identity: str = "") -> str:
    """Return a valid artifact name. A changed name, or one with an `identity`, ends in a digest of both."""
    valid = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:100]
    return name if valid == name and name and not identity else f"{valid.strip('-')}-{digest(name, identity)[:8]}"


def digest(*parts: object) -> str:
    """Return 32 digits that depend on the `repr` of all parts."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def timestamp(wall_time: float) -> str:
    """Return seconds since the epoch as Trackio's timestamp, to the microsecond. Times sort like their texts."""
    return (_EPOCH + timedelta(seconds=min(max(_FIRST, wall_time), _LAST))).isoformat(timespec="microseconds")


def to_plain(value: Any) -> Any:
    """Return a value that JSON of 64-bit integers and UTF-8 can hold. Others become text."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, bool | float | None) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    if isinstance(value, Mapping):
        return {to_plain(str(key)): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return to_plain(str(value))


def shown(record: Any, put: Put) -> dict[str, Any]:
    """Return the value of a record with a tag and a step, except a scalar. Its files are stored with `put`.

    The key `tracelet` has what Trackio's own keys cannot hold.

    Raises:
        ValueError, LookupError, TypeError: a table has no columns and rows.
    """
    match record:
        case r.Text(text=text):
            return {"_type": "trackio.markdown", "_value": to_plain(text)}
        case r.Histogram():
            counts, edges = p.histogram_bars(record, _MOST_BINS)
            exact = to_plain(p.histogram_facts(record, r.shown_step(record.step)))
            return {"_type": "trackio.histogram", "bins": edges, "values": counts, "tracelet": exact}
        case r.PRCurve():
            exact = to_plain({"kind": r.kind(record), "columns": p.CURVE_COLUMNS, "rows": p.curve_rows(record)})
            return _media("image", put("curve.png", p.curve_png(record))) | {"tracelet": exact}
    payloads, facts = p.record_files(record)
    paths = [put(name, payload) for name, payload in payloads.items()]
    exact = to_plain({"kind": r.kind(record), **facts, "files": dict(zip(payloads, paths, strict=True))})
    match record:
        case r.Image() | r.Audio():
            return _media(r.kind(record), paths[0], record.caption)
        case r.Video(format=form) if form in _VIDEOS:
            return _media("video", paths[0], record.caption)
        case r.Mesh() if paths:
            return _media("object3d", paths[0]) | {"format": "ply", "kind": "mesh", "tracelet": exact}
        case r.Table(data=data):
            return {"_type": "trackio.table", "_value": _rows(**json.loads(p.read_payload(data))), "tracelet": exact}
    lines = [f"**{r.kind(record)}**, in Trackio's folder `media`:", "", *(f"- `{path}`" for path in paths)]
    return {"_type": "trackio.markdown", "_value": "\n".join(lines), "tracelet": exact}


def _media(name: str, path: str, caption: str = "") -> dict[str, Any]:
    return {"_type": f"trackio.{name}", "file_path": path, "caption": to_plain(caption) or None}


def _rows(*, columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the first rows of a table. Repeated names of columns are numbered."""
    names = [f"{to_plain(str(name))}{f'~{index}' * (name in columns[:index])}" for index, name in enumerate(columns)]
    return [dict(zip(names, map(to_plain, row), strict=False)) for row in rows[:_MOST_ROWS]]
