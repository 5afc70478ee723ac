"""How names and plain values look in wandb. Pure functions, no wandb import."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

AXIS = "global_step"
MAX_BINS = 512
MAX_TAG = 64
LEVELS = {"info": "INFO", "warning": "WARN", "error": "ERROR"}
# wandb 0.31 drops "", "_step" and "_runtime" from a row without a word, reads "_timestamp" as its wall time, keeps
# its own data in "_wandb", and its service dies of a definition named "\" (index out of range).
_RESERVED = frozenset({"", "_step", "_runtime", "_timestamp", "_wandb", AXIS, "\\"})
_PART_BYTES = 160


def metric_name(tag: str) -> str:
    """The key of a tag: the tag itself, or "~" and the tag with "~" as "~0" and "*" as "~1".

    A "*" is escaped because `define_metric` makes a glob of it. No two tags share a key, and `tag_of` goes back.
    """
    if tag in _RESERVED or "*" in tag or tag.startswith("~"):
        return "~" + tag.replace("~", "~0").replace("*", "~1")
    return tag


def tag_of(name: str) -> str:
    """The tag behind a key of `metric_name`."""
    return name[1:].replace("~1", "*").replace("~0", "~") if name.startswith("~") else name


def definable(key: str) -> bool:
    """Whether `define_metric` takes a key of the program as it is, as an exact name."""
    return key not in _RESERVED and "*" not in key


def file_name(name: str) -> str:
    """A key that wandb can use as a file's name too: parts too long for a file system end in a hash, NUL goes."""
    return "/".join(_short(part) for part in name.split("/"))


def _short(part: str) -> str:
    data = part.encode()
    if len(data) <= _PART_BYTES and b"\0" not in data:
        return part
    return f"{data[:_PART_BYTES].replace(bytes(1), b'').decode(errors='ignore')}~{_digest(part)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def artifact_name(name: str) -> str:
    """A name of [A-Za-z0-9_.-], at most 128 characters; what had to change ends in a hash of the original."""
    name = name.rstrip("/")  # a folder
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")
    return plain if plain == name and len(name) <= 128 else f"{plain[:119]}-{_digest(name)}"


def artifact_type(kind: str) -> str:
    """A type without "/" and ":"; "job", "run_table", "code" and "wandb-..." are wandb's own."""
    plain = re.sub(r"[/:]", "-", kind)[:128] or "file"
    return f"tracelet-{plain}" if plain in ("job", "run_table", "code") or plain.startswith("wandb-") else plain


def tag_word(tag: str) -> str:
    """A tag of at most 64 characters, beyond which wandb takes none; a longer one ends in a hash."""
    return tag if len(tag) <= MAX_TAG else f"{tag[: MAX_TAG - 9]}~{_digest(tag)}"


def alert_words(title: str, text: str) -> tuple[str, str]:
    """A title of less than 64 characters, beyond which wandb sends none; a longer one stands in the text whole."""
    if len(title) < MAX_TAG:
        return title, text
    return f"{title[: MAX_TAG - 2]}…", f"{title}\n\n{text}" if text else title


def param_name(key: str) -> str:
    """A config key: wandb keeps its own data in "_wandb", and strips every "-" from both ends."""
    return "~_wandb" if key == "_wandb" else key.strip("-")


def plain(value: Any) -> Any:
    """A value for wandb's config: NaN becomes the string "NaN", because wandb makes null of it."""
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
    """A value for an artifact's metadata: wandb refuses the infinities there."""
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    return [strict(item) for item in value] if isinstance(value, list) else plain(value)
