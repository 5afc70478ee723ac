"""Build the sections of images, audio, videos and tables."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path

from tracelet.runs.media import Gallery, MediaFrame, TablePreview
from tracelet.runs.page.document import table
from tracelet.runs.page.drawings import caption
from tracelet.runs.page.markup import Markup, element

_TINY = 96
_PLURALS = {"image": "images", "audio": "audio clips", "video": "videos"}


def images(gallery: Gallery, folder: Path, omissions: list[str]) -> Iterator[Markup]:
    """Yield a figure for each tag. If it has several steps, the page's script shows one at a time."""
    yield Markup('<div class="cards">')
    for tag, selected in gallery.selected_images().items():
        frames = [_frame(tag, image, folder, gallery.limits.image_bytes) for image in selected]
        yield _reel(tag, [frame for frame in frames if frame], gallery.images[tag].count, "image", omissions)
    yield Markup("</div>")


def _frame(tag: str, image: MediaFrame, folder: Path, limit: int) -> Markup | None:
    data = image.data(folder, limit)
    if data is None:
        return None
    tiny = 0 < max(image.width, image.height) <= _TINY
    img = element(
        "img",
        src=data_address(image.media_type, data),
        alt=f"{tag}, step {image.step}",
        width=image.width or None,
        height=image.height or None,
        class_="tiny" if tiny else None,
        decoding="async",
    )
    return _in_frame(img, image)


def clips(gallery: Gallery, name: str, folder: Path, omissions: list[str]) -> Iterator[Markup]:
    """Yield a player for each tag and step. `name` is audio or video."""
    audio, videos = gallery.selected_clips()
    selected, samples = (audio, gallery.audio) if name == "audio" else (videos, gallery.videos)
    yield Markup('<div class="cards">')
    for tag, items in selected.items():
        frames = [_clip(name, tag, clip, folder, gallery.limits.clip_bytes) for clip in items]
        yield _reel(tag, [frame for frame in frames if frame], samples[tag].count, name, omissions)
    yield Markup("</div>")


def _clip(name: str, tag: str, clip: MediaFrame, folder: Path, limit: int) -> Markup | None:
    data = clip.data(folder, limit)
    if data is None:
        return None
    label = f"{tag}, step {clip.step}"
    player = element(name, src=data_address(clip.media_type, data), controls=True, preload="metadata", aria_label=label)
    return _in_frame(player, clip)


def _reel(tag: str, frames: Sequence[Markup], total: int, name: str, omissions: list[str]) -> Markup:
    if len(frames) < total:
        omissions.append(f"{total - len(frames)} of {total} {_PLURALS[name]} of {tag!r}")
    note = "Too large, missing, or in a format that browsers do not show."
    inner = element("div", *frames, class_="frames")
    return element(
        "figure", caption(tag), inner, None if frames else element("p", note, class_="hint"), class_="card reel"
    )


def _in_frame(content: Markup, item: MediaFrame) -> Markup:
    below = f"step {item.step}: {item.caption}" if item.caption else f"step {item.step}"
    return element("div", content, element("p", below), class_="frame", data_step=item.step)


def data_address(media_type: str | None, data: bytes) -> Markup:
    """Return an address that contains a file."""
    return Markup(f"data:{media_type};base64,{base64.b64encode(data).decode()}")


def tables(gallery: Gallery, folder: Path, omissions: list[str]) -> Iterator[Markup]:
    """Yield the start of the last table of each tag."""
    for tag, record in gallery.tables.items():
        preview = gallery.preview(record, folder)
        if preview is None:
            omissions.append(f"the table {tag!r}, which is unreadable or too large")
            continue
        yield element("h3", tag, element("small", f" step {preview.step}"))
        yield _preview(preview)
        if len(preview.rows) < preview.height or len(preview.columns) < preview.width:
            omissions.append(
                f"rows or columns of the table {tag!r}: {len(preview.rows)} of {preview.height} rows and "
                f"{len(preview.columns)} of {preview.width} columns are shown"
            )
        if preview.cut:
            omissions.append(f"the ends of {preview.cut} long cells of the table {tag!r}")


def _preview(preview: TablePreview) -> Markup:
    if not preview.columns:
        return element("p", "No columns.", class_="hint")
    return table(preview.columns, [row or [""] for row in preview.rows])
