"""How names, numbers and plain values look in MLflow. Pure functions, no MLflow import."""

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
_MAX_MADE = 200
_MAX_FILE_KEY = 100
_MAX_PART_BYTES = 200
_TAG_PIECE = 4000
_STEPS = (-(2**63), 2**63 - 1)
_LAST_MS = 253402300799000  # the end of the year 9999

_KEY = re.compile(r"[\w\-.:/ ]+")
_FILE_KEY = re.compile(r"[A-Za-z0-9_\-./ ]+")
# How a made name ends; a tag that ends like that by itself is changed too, so that no two tags share a name.
_MADE = re.compile(r".*-[0-9a-f]{10}", re.DOTALL)
_PICTURED = ("histograms/", "pr_curves/")


def key_of(tag: str) -> str:
    """The name of a metric, a parameter or a tag: as it is where MLflow takes it, else made good with a hash behind.

    No two tags share a key. A made key is at most 200 characters; the way back is `name_tags`.
    """
    if len(tag) <= MAX_KEY and _KEY.fullmatch(tag) and _is_settled(tag):
        return tag
    return _made(tag, re.sub(r"[^\w\-.:/ ]", "_", tag), _MAX_MADE)


def file_key(tag: str) -> str:
    """The same for the paths of files, in the letters that MLflow's own image view knows."""
    if len(tag) <= _MAX_FILE_KEY and _FILE_KEY.fullmatch(tag) and _is_settled(tag) and not tag.startswith(_PICTURED):
        return tag
    return _made(tag, re.sub(r"[^A-Za-z0-9_\-./ ]", "_", tag), _MAX_FILE_KEY)


def _is_settled(tag: str) -> bool:
    """Whether MLflow leaves the name alone: it refuses what a path would simplify, and some of its databases compare
    without regard to spaces at the end.
    """
    norm = posixpath.normpath(tag)
    parts = tag.split("/")
    odd = any(part != part.strip() or part.endswith(".") for part in parts)
    return norm == tag and not norm.startswith(("..", "/")) and norm != "." and not odd and not _MADE.fullmatch(tag)


def _made(tag: str, letters: str, most: int) -> str:
    parts = (part.strip(" .") for part in letters.split("/"))
    text = "/".join(part for part in parts if part)[:most].rstrip(" ./")
    return f"{text or '_'}-{digest(tag)}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def name_tags(key: str, tag: str) -> Iterator[tuple[str, str]]:
    """The run tags that tell which tag stands behind a made key: its JSON, in pieces that every server takes."""
    text = json.dumps(tag)
    for number, at in enumerate(range(0, len(text), _TAG_PIECE), 1):
        piece = "" if number == 1 else f".{number}"
        yield f"{NAME_TAG}{key}{piece}", text[at : at + _TAG_PIECE]


def param_tag(key: str) -> str:
    """The run tag that holds the value of a parameter that changed."""
    name = PARAM_TAG + key
    return name if len(name) <= MAX_KEY else f"{name[:_MAX_MADE]}-{digest(key)}"


def weight(text: str) -> int:
    """The bytes of a text in the JSON of a request."""
    return len(text) if text.isascii() and text.isprintable() else 12 * len(text)


def clean(text: str) -> str:
    """A text that every database takes: no NUL, no lone surrogate."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def param_text(value: Any, most: int) -> str:
    """A parameter as MLflow shows it, which is `str` of it, in at most `most` characters."""
    text = clean(str(value))
    return text if len(text) <= most else text[: most - 1] + "…"


def milliseconds(wall_time: float) -> int:
    """A wall time as MLflow takes it; one that it cannot hold becomes the nearest that it can."""
    if not wall_time > 0:
        return 0
    return _LAST_MS if wall_time * 1000 > _LAST_MS else round(wall_time * 1000)


def int64(step: int) -> int:
    """A step as MLflow takes it; one beyond 64 bits becomes the nearest."""
    return min(max(step, _STEPS[0]), _STEPS[1])


def is_held(value: float, step: int, wall_time: float) -> bool:
    """Whether MLflow's SQL stores hold the point as it is, but for parts of a millisecond."""
    if math.isinf(value) or (value == 0 and math.copysign(1, value) < 0):
        return False
    return _STEPS[0] <= step <= _STEPS[1] and 0 <= wall_time * 1000 <= _LAST_MS


def stem(tag: str, step: int, wall_time: float, *more: str) -> str:
    """The beginning of a file's name: the same for the same record, another for any other."""
    mark = digest(json.dumps([tag, step, repr(wall_time), *more]))
    return f"step_{int64(step)}_{milliseconds(wall_time)}_{mark}"


def image_stem(key: str, step: int, wall_time: float, mark: str) -> str:
    """A file's name as MLflow's image view parses it: key, step, time and a UUID between plus signs."""
    hexadecimal = hashlib.sha256(f"{key} {step} {wall_time!r} {mark}".encode()).hexdigest()
    uuid = "-".join((hexadecimal[:8], hexadecimal[8:12], hexadecimal[12:16], hexadecimal[16:20], hexadecimal[20:32]))
    return f"{key.replace('/', '~')}+step+{int64(step)}+timestamp+{milliseconds(wall_time)}+{uuid}"


def artifact_path(path: str) -> str:
    """The path of a program's file in the run: as it is where that is safe, else made good with a hash behind.

    `tracelet/` is ours, and one foreign file right in `images/` would empty MLflow's image view.
    """
    parts = PurePosixPath(path.lstrip("/")).parts
    ours = parts[:1] == ("tracelet",) or (parts[:1] == ("images",) and len(parts) == 2)
    made = [_part(part, force=ours and at == 0) for at, part in enumerate(parts)]
    return "/".join(made) or _part(path, force=True)


def _part(part: str, *, force: bool) -> str:
    """One folder's or file's name: "#", "?" and "%" would end or change the path of a request."""
    bad = re.search(r"[#?%\\\x00-\x1f\x7f\ud800-\udfff]", part) or len(part.encode()) > _MAX_PART_BYTES
    if not (bad or force or part in ("..", ".")):
        return part
    name = PurePosixPath(re.sub(r"[^\w\-. ]", "_", part, flags=re.ASCII)[-_MAX_PART_BYTES + 20 :])
    return f"{name.stem.strip('.') or '_'}-{digest(part)}{name.suffix}"


def strict(value: Any) -> Any:
    """A value for JSON that a browser reads: NaN and the infinities become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    return [strict(item) for item in value] if isinstance(value, (list, tuple)) else value
