"""Records as Aim's own objects, and what Aim has no object for as the nearest that a person can look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tracelet.backends.aim.values import plain, uniform
from tracelet.backends.presentation import bars, content, curve_png, histogram_facts
from tracelet.records import Audio, Histogram, Image, PRCurve, Table, Video, kind, shown_step

EXACT = "tracelet"
"""The key of an object's storage under which its exact record lies, as JSON."""
_SOUNDS = ("wav", "mp3", "flac")
_PICTURES = ("png", "jpeg", "jpg", "gif", "webp", "bmp")
_ROWS = 100


def picture(data: bytes, format: str, width: int, height: int, caption: str = "") -> Any:
    """An `aim.Image` with these very bytes: its own constructors encode them anew."""
    from aim import Image as Vendors
    from aim.storage.types import BLOB

    image = Vendors.__new__(Vendors)
    told = {"source": "PIL.Image", "mode": "", "format": format, "width": width, "height": height, "caption": caption}
    for name, value in told.items():
        image.storage[name] = value
    image.storage["data"] = BLOB(data=data)
    return image


def image(record: Image | Video) -> Any | None:
    """The picture itself; None for a film that is not one to a browser."""
    if isinstance(record, Video) and record.format.lower() not in _PICTURES:
        return None
    return picture(content(record.data), record.format, record.width, record.height)


def sound(record: Audio) -> Any | None:
    """An `aim.Audio` with these very bytes; None where Aim does not know the format."""
    from aim import Audio as Vendors

    if record.format.lower() not in _SOUNDS:
        return None
    return Vendors(content(record.data), format=record.format)


def words(text: str) -> Any:
    from aim import Text as Vendors

    return Vendors(plain(text))


def distribution(record: Histogram) -> Any:
    """An `aim.Distribution` of equal buckets, which holds the exact ones as well."""
    from aim import Distribution as Vendors

    weights, low, high = uniform(*bars(record))
    return with_facts(Vendors(hist=weights, bin_range=(low, high)), histogram_facts(record, shown_step(record.step)))


def curve(record: PRCurve) -> Any:
    """A picture of the curve, which holds its exact rows as well."""
    data = curve_png(record)
    facts = {name: getattr(record, name) for name in record.__struct_fields__}
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))  # of the PNG's header
    return with_facts(picture(data, "png", width, height), facts)


def pointer(record: Any, facts: Mapping[str, Any], kept: Mapping[str, str]) -> Any:
    """A text that says what the record is and where its files are kept."""
    shown = [_table(record)] if isinstance(record, Table) else []
    lines = [f"{kind(record)} {record.tag}", *shown]
    lines += [f"{name}: {value}" for name, value in facts.items() if name not in ("tag", "wall_time", "writer")]
    lines += [f"{name} is kept as {place}" for name, place in kept.items()]
    return with_facts(words("\n".join(lines)), {**facts, "files": dict(kept)})


def with_facts(made: Any, facts: Mapping[str, Any]) -> Any:
    from aim.storage.types import BLOB

    made.storage[EXACT] = BLOB(data=json.dumps(facts, default=str).encode())
    return made


def _table(record: Table) -> str:
    """The first rows in Markdown."""
    told = json.loads(content(record.data))
    rows = [told["columns"], ["---"] * len(told["columns"]), *told["rows"][:_ROWS]]
    more = len(told["rows"]) - _ROWS
    text = "\n".join("| " + " | ".join(str(cell).replace("\n", " ") for cell in row) + " |" for row in rows)
    return f"{text}\n... and {more} rows more" if more > 0 else text
