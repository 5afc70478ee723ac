"""How names, parameters and buckets look in Aim. Pure functions, no Aim import."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

LARGEST_STEP = 2**63 - 1
FEWEST_BINS, MOST_BINS = 64, 512
# Aim reads back a key "" as the number 0, and then no metric of the whole run; the others are its own: captured
# output, `run.log_info`, resource charts.
_RESERVED = frozenset({"", "logs", "__log_records"})
_OWN_PREFIXES = ("~", "__system__")
_READABLE = " !#$&'()*+,/:;=?@[]{}|^`<>\"\\"
_HALF = sys.float_info.max / 2


def escaped(text: str) -> str:
    """A text that Aim can use as a name: itself, or "~" and the text with percent escapes. `unescaped` goes back."""
    if text in _RESERVED or text.startswith(_OWN_PREFIXES) or not _is_unicode(text):
        return "~" + quote(text, safe=_READABLE, errors="surrogatepass")
    return text


def unescaped(name: str) -> str:
    """The text behind a name of `escaped`."""
    return unquote(name[1:], errors="surrogatepass") if name.startswith("~") else name


def place(tag: str, writer: str) -> tuple[str, dict[str, Any]]:
    """The name and the context of a tag: `val/loss` of the writer `val` is `loss` of the subset `val`."""
    if writer and tag.startswith(f"{writer}/"):
        return escaped(tag[len(writer) + 1 :]), {"subset": escaped(writer)}
    return escaped(tag), {}


def held_step(step: int) -> tuple[int, dict[str, Any]]:
    """A step that fits Aim's 64 bits, and what the context must say about it where it was beyond them."""
    if -LARGEST_STEP <= step <= LARGEST_STEP:
        return step, {}
    return (LARGEST_STEP if step > 0 else -LARGEST_STEP), {"step": str(step)}


def nested(params: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as a tree, as Aim's queries and table expect them; `flat` goes back.

    A name that cannot be in the tree, because a part of it is empty or a parameter itself, is one key with its dots.
    """
    tree: dict[str, Any] = {}
    for name, value in params.items():
        parts = name.split(".")
        above = {".".join(parts[:end]) for end in range(1, len(parts))}
        if not all(parts) or not above.isdisjoint(params):
            parts = [name]
        inner = tree
        for part in parts[:-1]:
            inner = inner.setdefault(escaped(part), {})
        inner[escaped(parts[-1])] = plain(value)
    return tree


def flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """The dotted names of a tree of parameters."""
    params: dict[str, Any] = {}
    for key, value in tree.items():
        name = prefix + unescaped(str(key))
        if isinstance(value, Mapping) and value:
            params |= flat(value, f"{name}.")
        else:
            params[name] = value
    return params


def plain(value: Any) -> Any:
    """A value for Aim's tree: integers beyond 64 bits, and what is no plain value, become text."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, (bool, float)) or value is None:
        return value
    if isinstance(value, int):
        return value if -LARGEST_STEP <= value <= LARGEST_STEP else str(value)
    if isinstance(value, Mapping):
        return {escaped(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return plain(str(value))


def uniform(counts: Sequence[float], edges: Sequence[float]) -> tuple[list[float], float, float]:
    """Counts of buckets of equal width, and their range: Aim holds no others. The total stays as it was."""
    import numpy as np

    low, high = max(edges[0], -_HALF), min(edges[-1], _HALF)
    if not high > low:  # one value
        middle, margin = (low + high) / 2, max(0.5, abs(low) * 1e-9)
        low, high = middle - margin, middle + margin
    bins = min(MOST_BINS, max(FEWEST_BINS, len(counts)))
    reached = np.concatenate([[0.0], np.cumsum(np.nan_to_num(np.asarray(counts, dtype=float)))])
    # As parts of the range: the slope across a bucket of a subnormal width would be infinite.
    places = (np.clip(np.asarray(edges, dtype=float), low, high) - low) / (high - low)
    with np.errstate(over="ignore", invalid="ignore"):
        shares = np.fmin(np.interp(np.linspace(0.0, 1.0, bins + 1), places, reached), reached[-1])
    shares[0], shares[-1] = 0.0, reached[-1]
    return [float(share) for share in np.diff(shares)], low, high


def stem(text: str) -> str:
    """A part of a file's name that tells a person what the file is."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:64] or "unnamed"


def safe_path(name: str) -> str:
    """A relative path that stays inside its folder."""
    parts = plain(name).replace("\0", "_").split("/")
    return "/".join({"": "_", ".": "_", "..": "__"}.get(part, part) for part in parts)


def earlier_name(name: str, number: int) -> str:
    """Where the `number`th file that was called `name` lies when a later one has taken its place."""
    folder, slash, leaf = name.rpartition("/")
    stem, dot, suffix = leaf.rpartition(".")
    return f"{folder}{slash}{stem}~{number}.{suffix}" if dot and stem else f"{name}~{number}"


def _is_unicode(text: str) -> bool:
    """Whether a text has UTF-8: a lone surrogate has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
