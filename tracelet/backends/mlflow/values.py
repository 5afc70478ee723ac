"""Convert names, numbers and plain values for MLflow. Pure functions, without importing MLflow."""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

NAME_TAG = "tracelet.name."
PARAM_TAG = "tracelet.param."
MAX_KEY = 250
_MAX_HASHED = 200
_MAX_FILE_KEY = 100
_MAX_PART_BYTES = 200
_TAG_PIECE = 4000
_STEPS = (-(2**63), 2**63 - 1)
_LAST_MS = 253402300799000  # the end of the year 9999

_KEY = re.compile(r"[\w\-.:/ ]+")
_FILE_KEY = re.compile(r"[A-Za-z0-9_\-./ ]+")
# The end of a hashed name. If a tag has such an end itself, it is hashed too, so different tags have different names.
_HASHED = re.compile(r".*-[0-9a-f]{10}", re.DOTALL)
_CHART_PREFIXES = ("histograms/", "pr_curves/")


def key_of(tag: str) -> str:
    """Return the name of a metric, parameter or tag. If MLflow rejects it, replace characters and append a hash.

    Different tags have different keys. A hashed key has at most 200 characters; `name_tags` contain the original.
    """
    if len(tag) <= MAX_KEY and _KEY.fullmatch(tag) and _is_stable(tag):
        return tag
    return _hashed(tag, re.sub(r"[^\w\-.:/ ]", "_", tag), _MAX_HASHED)


def file_key(tag: str) -> str:
    """Return a file path for a tag, in the characters that MLflow's image view supports. Hash it like `key_of`."""
    valid = len(tag) <= _MAX_FILE_KEY and _FILE_KEY.fullmatch(tag) and _is_stable(tag)
    if valid and not tag.startswith(_CHART_PREFIXES):
        return tag
    return _hashed(tag, re.sub(r"[^A-Za-z0-9_\-./ ]", "_", tag), _MAX_FILE_KEY)


def _is_stable(tag: str) -> bool:
    """Check if MLflow stores the name unchanged.

    It rejects names that path normalization would change, and some of its databases ignore spaces at the end.
    """
    norm = posixpath.normpath(tag)
    parts = tag.split("/")
    trimmed = any(part != part.strip() or part.endswith(".") for part in parts)
    normal = norm == tag and not norm.startswith(("..", "/")) and norm != "."
    return normal and not trimmed and not _HASHED.fullmatch(tag)


def _hashed(tag: str, readable: str, max_length: int) -> str:
    parts = (part.strip(" .") for part in readable.split("/"))
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


def param_text(value: Any, max_length: int) -> str:
    """Return the text of a parameter like MLflow, by `str`, with at most `max_length` characters."""
    text = clean(str(value))
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def milliseconds(wall_time: float) -> int:
    """Convert a wall time for MLflow, limited to its range."""
    if not wall_time > 0:
        return 0
    return _LAST_MS if wall_time * 1000 > _LAST_MS else round(wall_time * 1000)


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
    uuid = "-".join((hexadecimal[:8], hexadecimal[8:12], hexadecimal[12:16], hexadecimal[16:20], hexadecimal[20:32]))
    return f"{key.replace('/', '~')}+step+{int64(step)}+timestamp+{milliseconds(wall_time)}+{uuid}"


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
