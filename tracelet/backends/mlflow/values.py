"""Convert names, times, numbers and plain values for MLflow, without importing it."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import posixpath
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, TypeAlias
from uuid import UUID

NAME_TAG, PARAM_TAG = "tracelet.name.", "tracelet.param."
MAX_KEY, _MAX_HASHED, _MAX_FILE_KEY = 250, 200, 100
_MAX_PART_BYTES, _TAG_PIECE = 200, 4000
_STEPS = (-(2**63), 2**63 - 1)
_LAST_MS = 253402300799000  # the end of the year 9999

_NOT_IN_KEY, _NOT_IN_FILE_KEY = re.compile(r"[^\w\-.:/ ]"), re.compile(r"[^A-Za-z0-9_\-./ ]")
# The end of a hashed name. If a tag has such an end itself, it is hashed too, so different tags have different names.
_HASHED = re.compile(r".*-[0-9a-f]{10}", re.DOTALL)
_MAX_POINTS, _MAX_CACHED_KEYS = 8192, 100_000

_Point: TypeAlias = tuple[str, int, int, object]


@functools.lru_cache(_MAX_CACHED_KEYS)
def key_of(tag: str) -> str:
    """Return the name of a metric, parameter or tag. If MLflow rejects it, replace characters and append a hash.

    Different tags have different keys. A hashed key has at most 200 characters; `name_tags` contain the original.
    """
    return tag if len(tag) <= MAX_KEY and _is_stable(tag, _NOT_IN_KEY) else _hashed(tag, _NOT_IN_KEY, _MAX_HASHED)


def file_key(tag: str) -> str:
    """Return a file path for a tag, in the characters that MLflow's image view supports. Hash it like `key_of`."""
    is_valid = len(tag) <= _MAX_FILE_KEY and _is_stable(tag, _NOT_IN_FILE_KEY)
    return tag if is_valid else _hashed(tag, _NOT_IN_FILE_KEY, _MAX_FILE_KEY)


def _is_stable(tag: str, invalid: re.Pattern[str]) -> bool:
    """Check if MLflow stores the name unchanged.

    It rejects names that path normalization would change, and some of its databases ignore spaces at the end.
    """
    norm = posixpath.normpath(tag)
    parts = tag.split("/")
    trimmed = any(part != part.strip() or part.endswith(".") for part in parts)
    normal = norm == tag and not norm.startswith(("..", "/")) and norm != "."
    return normal and not trimmed and not invalid.search(tag) and not _HASHED.fullmatch(tag)


def _hashed(tag: str, invalid: re.Pattern[str], max_length: int) -> str:
    parts = (part.strip(" .") for part in invalid.sub("_", tag).split("/"))
    text = "/".join(part for part in parts if part)[:max_length].rstrip(" ./")
    return f"{text or '_'}-{digest(tag)}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def name_tags(key: str, tag: str) -> Iterator[tuple[str, str]]:
    """Yield run tags with the original of a hashed key: its JSON, in pieces that every server accepts."""
    text = json.dumps(tag)
    for number, start in enumerate(range(0, len(text), _TAG_PIECE), 1):
        suffix = "" if number == 1 else f".{number}"
        yield f"{NAME_TAG}{key}{suffix}", text[start : start + _TAG_PIECE]


def renamed(key: str, tag: str) -> dict[str, str]:
    """Return the `name_tags`; empty if the key is the tag itself."""
    return {} if key == tag else dict(name_tags(key, tag))


def param_tag(key: str) -> str:
    """Return the run tag for the new value of a parameter."""
    name = PARAM_TAG + key
    return name if len(name) <= MAX_KEY else f"{name[:_MAX_HASHED]}-{digest(key)}"


def weight(text: str) -> int:
    """Return the maximum bytes of a text in the JSON of a request."""
    return len(text) if text.isascii() and text.isprintable() else 12 * len(text)


def clean(text: str) -> str:
    """Escape NUL and lone surrogates, which some databases reject."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def shortened(value: Any, max_length: int) -> str:
    """Return the text of a value like MLflow, by `str`, with at most `max_length` characters."""
    text = clean(str(value))
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def milliseconds(wall_time: float) -> int:
    """Convert a wall time for MLflow, limited to its range."""
    return round(min(wall_time * 1000, _LAST_MS)) if wall_time > 0 else 0


def int64(step: int) -> int:
    """Limit a step to 64 bits."""
    return min(max(step, _STEPS[0]), _STEPS[1])


def is_exact(value: float, step: int, wall_time: float) -> bool:
    """Check if MLflow's SQL stores keep the point unchanged, except for fractions of a millisecond."""
    if math.isinf(value) or (value == 0 and math.copysign(1, value) < 0):
        return False
    return _STEPS[0] <= step <= _STEPS[1] and 0 <= wall_time * 1000 <= _LAST_MS


def stem(tag: str, step: int, wall_time: float, *more: str) -> str:
    """Return the start of a file name. It is the same only for the same record."""
    identity = digest(json.dumps([tag, step, repr(wall_time), *more]))
    return f"step_{int64(step)}_{milliseconds(wall_time)}_{identity}"


def image_stem(key: str, step: int, wall_time: float, identity: str) -> str:
    """Return a file name that MLflow's image view can parse: key, step, time and a UUID between plus signs."""
    hexadecimal = hashlib.sha256(f"{key} {step} {wall_time!r} {identity}".encode()).hexdigest()
    return f"{key.replace('/', '~')}+step+{int64(step)}+timestamp+{milliseconds(wall_time)}+{UUID(hexadecimal[:32])}"


def artifact_path(path: str) -> str:
    """Return the path of a program's file in the run. If it is not safe, replace characters and append a hash.

    `tracelet/` is reserved, and one other file directly in `images/` would make MLflow's image view empty.
    """
    parts = PurePosixPath(path.lstrip("/")).parts
    reserved = parts[:1] == ("tracelet",) or (parts[:1] == ("images",) and len(parts) == 2)
    safe = [_part(part, force=reserved and index == 0) for index, part in enumerate(parts)]
    return "/".join(safe) or _part(path, force=True)


def _part(part: str, *, force: bool) -> str:
    """Return a safe name of a folder or file: "#", "?" and "%" would end or change the path of a request."""
    unsafe = re.search(r"[#?%\\\x00-\x1f\x7f\ud800-\udfff]", part) or len(part.encode()) > _MAX_PART_BYTES
    if not (unsafe or force or part in ("..", ".")):
        return part
    name = PurePosixPath(re.sub(r"[^\w\-. ]", "_", part, flags=re.ASCII)[-_MAX_PART_BYTES + 20 :])
    return f"{name.stem.strip('.') or '_'}-{digest(part)}{name.suffix}"


def strict(value: Any) -> Any:
    """Convert a value to JSON that browsers can read: NaN and infinities become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    return [strict(item) for item in value] if isinstance(value, (list, tuple)) else value


class TimestampDeduplicator:
    """Assign the next free millisecond to a point that repeats within one millisecond.

    Assigned times are a draft until `commit` is called with the number of written records. If a batch is retried, its
    points get the same times again, so the store recognizes the points that it has.
    """

    def __init__(self) -> None:
        self._taken: dict[_Point, int] = {}
        self._draft: dict[_Point, int] = {}
        self._log: list[tuple[int, _Point, int]] = []

    def assign(self, index: int, key: str, step: int, time: int, value: float) -> int:
        """Return the time for the point of record `index` of this batch, in milliseconds."""
        identity: object = value if value == value else "nan"
        wanted = point = key, step, time, identity
        while free := self._draft.get(point) or self._taken.get(point):
            point = key, step, free, identity
        for taken in dict.fromkeys((point, wanted)):
            self._draft[taken] = point[2] + 1
            self._log.append((index, taken, point[2] + 1))
        return point[2]

    def commit(self, written: int) -> None:
        """Keep the times of the first `written` records of the batch, and discard the others."""
        for index, point, free in self._log:
            if index < written:
                self._taken.pop(point, None)
                self._taken[point] = free
        self._draft.clear()
        self._log.clear()
        for point in list(itertools.islice(self._taken, max(len(self._taken) - _MAX_POINTS, 0))):
            del self._taken[point]
