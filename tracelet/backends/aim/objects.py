"""Convert records to Aim's objects. A record without a matching object becomes an image or a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tracelet import records as r
from tracelet.backends.aim.values import to_plain, uniform_bins
from tracelet.backends.presentation import curve_png, histogram_bars, histogram_facts, read_payload

EXACT = "tracelet"
"""The key of an object's storage for the exact record, as JSON."""
_AUDIO_FORMATS = ("wav", "mp3", "flac")
_IMAGE_FORMATS = ("png", "jpeg", "jpg", "gif", "webp", "bmp")
_MAX_ROWS = 100


def _image(data: bytes, format: str, width: int, height: int, caption: str = "") -> Any:
    """Create an `aim.Image` with these exact bytes. Aim's own constructors would encode them again."""
    from aim import Image as AimImage
    from aim.storage.types import BLOB

    image = AimImage.__new__(AimImage)
    fields = {"source": "PIL.Image", "mode": "", "format": format, "width": width, "height": height}
    fields["caption"] = to_plain(caption)
    for name, value in fields.items():
        image.storage[name] = value
    image.storage["data"] = BLOB(data=data)
    return image


def to_image(record: r.Image | r.Video) -> Any | None:
    """Return an `aim.Image`; None for a video that a browser cannot show as an image."""
    if isinstance(record, r.Video) and record.format.lower() not in _IMAGE_FORMATS:
        return None
    return _image(read_payload(record.data), record.format, record.width, record.height, record.caption)


def to_audio(record: r.Audio) -> Any | None:
    """Return an `aim.Audio` with these exact bytes; None if Aim does not support the format."""
    from aim import Audio as AimAudio

    if record.format.lower() not in _AUDIO_FORMATS:
        return None
    return AimAudio(read_payload(record.data), format=record.format, caption=to_plain(record.caption))


def to_text(text: str) -> Any:
    """Return an `aim.Text`."""
    from aim import Text as AimText

    return AimText(to_plain(text))


def to_distribution(record: r.Histogram) -> Any:
    """Return an `aim.Distribution` with buckets of equal width, and the exact buckets attached."""
    from aim import Distribution

    weights, low, high = uniform_bins(*histogram_bars(record))
    distribution = Distribution(hist=weights, bin_range=(low, high))
    return _with_facts(distribution, histogram_facts(record, r.shown_step(record.step)))


def to_curve(record: r.PRCurve) -> Any:
    """Return an `aim.Image` of the curve, with its exact rows attached."""
    data = curve_png(record)
    facts = {name: getattr(record, name) for name in record.__struct_fields__}
    width, height = (int.from_bytes(data[offset : offset + 4], "big") for offset in (16, 20))  # in the PNG header
    return _with_facts(_image(data, "png", width, height), facts)


def to_reference(record: Any, facts: Mapping[str, Any], paths: Mapping[str, str]) -> Any:
    """Return an `aim.Text` with the fields of the record and the paths of its files."""
    shown = [_table(record)] if isinstance(record, r.Table) else []
    lines = [f"{r.kind(record)} {record.tag}", *shown]
    lines += [f"{name}: {value}" for name, value in facts.items() if name not in ("tag", "wall_time", "writer")]
    lines += [f"{name} is stored as {path}" for name, path in paths.items()]
    return _with_facts(to_text("\n".join(lines)), {**facts, "files": dict(paths)})


def _with_facts(aim_object: Any, facts: Mapping[str, Any]) -> Any:
    from aim.storage.types import BLOB

    aim_object.storage[EXACT] = BLOB(data=json.dumps(facts, default=str).encode())
    return aim_object


def _table(record: r.Table) -> str:
    """Return the first rows as Markdown."""
    table = json.loads(read_payload(record.data))
    rows = [table["columns"], ["---"] * len(table["columns"]), *table["rows"][:_MAX_ROWS]]
    more = len(table["rows"]) - _MAX_ROWS
    text = "\n".join("| " + " | ".join(str(cell).replace("\n", " ") for cell in row) + " |" for row in rows)
    return f"{text}\n... and {more} more rows" if more > 0 else text
