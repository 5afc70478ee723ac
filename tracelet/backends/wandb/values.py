"""Convert names and plain values for wandb. Pure functions, without importing wandb."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

AXIS, MARK = "global_step", "_tracelet"
MAX_BINS = 512
MAX_TAG = 64
LEVELS = {"info": "INFO", "warning": "WARN", "error": "ERROR"}
# wandb 0.31 silently drops "", "_step" and "_runtime" from a row, reads "_timestamp" as its wall time, and stores its
# own data in "_wandb". A definition named "\" kills its service (index out of range).
_RESERVED = frozenset({"", "_step", "_runtime", "_timestamp", "_wandb", AXIS, MARK, "\\"})
_PART_BYTES = 160


def metric_name(tag: str) -> str:
    """Return the key of a tag: the tag itself, or "~" and the tag with "~" as "~0" and "*" as "~1".

    `define_metric` would expand a "*" as a glob. Different tags have different keys; `tag_of` is the inverse.
    """
    if tag in _RESERVED or "*" in tag or tag.startswith("~"):
        return "~" + tag.replace("~", "~0").replace("*", "~1")
    return tag


def tag_of(name: str) -> str:
    """Return the tag of a key from `metric_name`."""
    return name[1:].replace("~1", "*").replace("~0", "~") if name.startswith("~") else name


def definable(key: str) -> bool:
    """Check if `define_metric` accepts a key of the program as an exact name."""
    return key not in _RESERVED and "*" not in key


def file_name(name: str) -> str:
    """Make a key usable as a file name: remove NUL, and shorten each part over 160 bytes, with a hash at its end."""
    return "/".join(_short(part) for part in name.split("/"))


def _short(part: str) -> str:
    data = part.encode()
    if len(data) <= _PART_BYTES and b"\0" not in data:
        return part
    return f"{data[:_PART_BYTES].replace(bytes(1), b'').decode(errors='ignore')}~{_digest(part)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def artifact_name(name: str) -> str:
    """Return a name of [A-Za-z0-9_.-], at most 128 characters; if changed, with a hash of the original at its end."""
    name = name.rstrip("/")  # a folder
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")
    return plain if plain == name and len(name) <= 128 else f"{plain[:119]}-{_digest(name)}"


def artifact_type(kind: str) -> str:
    """Return a type without "/" and ":". Prefix the reserved types "job", "run_table", "code" and "wandb-..."."""
    plain = re.sub(r"[/:]", "-", kind)[:128] or "file"
    return f"tracelet-{plain}" if plain in ("job", "run_table", "code") or plain.startswith("wandb-") else plain


def run_tag(tag: str) -> str:
    """Shorten a run tag to 64 characters, the maximum of wandb, with a hash at its end."""
    return tag if len(tag) <= MAX_TAG else f"{tag[: MAX_TAG - 9]}~{_digest(tag)}"


def alert_fields(title: str, text: str) -> tuple[str, str]:
    """Shorten a title to 63 characters, because wandb rejects longer ones. The text then begins with the full title."""
    if len(title) < MAX_TAG:
        return title, text
    return f"{title[: MAX_TAG - 2]}…", f"{title}\n\n{text}" if text else title


def param_name(key: str) -> str:
    """Return a config key. wandb reserves "_wandb", and strips "-" from both ends."""
    return "~_wandb" if key == "_wandb" else key.strip("-")


def plain(value: Any) -> Any:
    """Convert a value for wandb's config. NaN becomes the string "NaN", because wandb would store null."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, (str, int, float)) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)


def strict(value: Any) -> Any:
    """Convert a value for an artifact's metadata. wandb rejects infinities there, so they become strings."""
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    return [strict(item) for item in value] if isinstance(value, list) else plain(value)
