"""Convert names, parameters and buckets to the forms that Aim supports. Pure functions; Aim is not imported."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from tracelet.backends.paths import shortened

LARGEST_STEP = 2**63 - 1
FEWEST_BINS, MOST_BINS = 64, 512
# Aim reads a key "" back as the number 0, and then reads no metric of the run at all. Aim itself uses the others, for
# captured output, `run.log_info` and resource charts.
_RESERVED = frozenset({"", "logs", "__log_records"})
_OWN_PREFIXES = ("~", "__system__")
_READABLE = " !#$&'()*+,/:;=?@[]{}|^`<>\"\\"
_HALF = sys.float_info.max / 2


def escaped(text: str) -> str:
    """Return a valid Aim name: the text, or "~" and the text with percent escapes. `unescaped` is the inverse."""
    if text in _RESERVED or text.startswith(_OWN_PREFIXES) or not _is_unicode(text):
        return "~" + quote(text, safe=_READABLE, errors="surrogatepass")
    return text


def unescaped(name: str) -> str:
    """Return the text that `escaped` converted."""
    return unquote(name[1:], errors="surrogatepass") if name.startswith("~") else name


def name_and_context(tag: str, writer: str) -> tuple[str, dict[str, Any]]:
    """Return the name and context of a tag: `val/loss` of the writer `val` is `loss` in the subset `val`."""
    if writer and tag.startswith(f"{writer}/"):
        return escaped(tag[len(writer) + 1 :]), {"subset": escaped(writer)}
    return escaped(tag), {}


def split_step(step: int) -> tuple[int, dict[str, Any]]:
    """Return a step that fits Aim's 64 bits, and a context with the exact step if it does not fit."""
    if -LARGEST_STEP <= step <= LARGEST_STEP:
        return step, {}
    return (LARGEST_STEP if step > 0 else -LARGEST_STEP), {"step": str(step)}


def nested(params: Mapping[str, Any]) -> dict[str, Any]:
    """Convert dotted names to a tree, as Aim's queries and table expect. `flat` is the inverse.

    A name stays one key with dots if a part of it is empty, or is itself the name of a parameter.
    """
    tree: dict[str, Any] = {}
    for name, value in params.items():
        parts = name.split(".")
        parents = {".".join(parts[:end]) for end in range(1, len(parts))}
        if not all(parts) or not parents.isdisjoint(params):
            parts = [name]
        inner = tree
        for part in parts[:-1]:
            inner = inner.setdefault(escaped(part), {})
        inner[escaped(parts[-1])] = to_plain(value)
    return tree


def flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Convert a tree of parameters to dotted names."""
    params: dict[str, Any] = {}
    for key, value in tree.items():
        name = prefix + unescaped(str(key))
        if isinstance(value, Mapping) and value:
            params |= flat(value, f"{name}.")
        else:
            params[name] = value
    return params


def to_plain(value: Any) -> Any:
    """Return a value for Aim's tree. Integers beyond 64 bits and values of other types become text."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, (bool, float)) or value is None:
        return value
    if isinstance(value, int):
        return value if -LARGEST_STEP <= value <= LARGEST_STEP else str(value)
    if isinstance(value, Mapping):
        return {escaped(str(key)): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return to_plain(str(value))


def uniform_bins(counts: Sequence[float], edges: Sequence[float]) -> tuple[list[float], float, float]:
    """Return counts for buckets of equal width, and their range. Aim supports no others. The total is unchanged."""
    import numpy as np

    low, high = max(edges[0], -_HALF), min(edges[-1], _HALF)
    if not high > low:  # one value
        middle, margin = (low + high) / 2, max(0.5, abs(low) * 1e-9)
        low, high = middle - margin, middle + margin
    bins = min(MOST_BINS, max(FEWEST_BINS, len(counts)))
    cumulative = np.concatenate([[0.0], np.cumsum(np.nan_to_num(np.asarray(counts, dtype=float)))])
    # As fractions of the range: the slope across a bucket of a subnormal width would be infinite.
    positions = (np.clip(np.asarray(edges, dtype=float), low, high) - low) / (high - low)
    with np.errstate(over="ignore", invalid="ignore"):
        shares = np.fmin(np.interp(np.linspace(0.0, 1.0, bins + 1), positions, cumulative), cumulative[-1])
    shares[0], shares[-1] = 0.0, cumulative[-1]
    return [float(share) for share in np.diff(shares)], low, high


def file_stem(text: str) -> str:
    """Return a readable part of a file name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:64] or "unnamed"


def safe_path(name: str) -> str:
    """Return a relative path that stays inside its folder."""
    parts = to_plain(name).replace("\0", "_").split("/")
    return shortened("/".join({"": "_", ".": "_", "..": "__"}.get(part, part) for part in parts))


def earlier_name(name: str, number: int) -> str:
    """Return the new name of the `number`th file named `name` after a later file has replaced it."""
    folder, slash, leaf = name.rpartition("/")
    stem, dot, suffix = leaf.rpartition(".")
    return f"{folder}{slash}{stem}~{number}.{suffix}" if dot and stem else f"{name}~{number}"


def _is_unicode(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8. A lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
