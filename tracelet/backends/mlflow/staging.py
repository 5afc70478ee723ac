"""What a record that is no number becomes in a run's artifacts. No MLflow import.

`images/` is MLflow's own image view; everything else of ours lies below `tracelet/<kind>/<tag>/`.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tracelet.backends.mlflow.values import artifact_path, digest, file_key, image_stem, stem, strict
from tracelet.backends.presentation import (
    alert_page,
    content,
    curve_png,
    entries,
    files,
    histogram_facts,
    histogram_png,
)
from tracelet.records import (
    Alert,
    Artifact,
    Histogram,
    Image,
    Payload,
    PRCurve,
    Record,
    Table,
    Text,
    kind,
    shown_step,
)

_VIEWED = ("png", "webp")
_THUMBNAIL = 256
_SMALL = 32 * 1024


class Stage:
    """A folder with what is to be uploaded, under the paths that it will have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = False
        self.tables: list[str] = []
        self.largest = 0

    def put(self, record: Record) -> list[str]:
        """Lay out the files of a record; gives the tags whose file keys were made.

        Raises:
            OSError, ValueError: a payload is gone, or is not what it should be.
        """
        match record:
            case Artifact():
                self._artifact(record)
                return []
            case Alert():
                place = f"tracelet/alert/{stem(record.title, 0, record.wall_time, record.level, record.text)}"
                self._link(f"{place}.md", alert_page(record).encode("utf-8", "backslashreplace"))
                self._write(f"{place}.facts.json", msgspec.structs.asdict(record))
            case Image(data=data, format=form) if form in _VIEWED:
                self._view(file_key(record.tag), record, form, content(data))
            case Image(data=data):
                self._files(record)
                self._view(file_key(record.tag), record, "png", _as_png(content(data)))
            case Histogram():
                self._picture(record, "histograms", histogram_png(record))
                self._write(self._place(record) + ".json", histogram_facts(record, shown_step(record.step)))
            case PRCurve():
                self._picture(record, "pr_curves", curve_png(record))
                self._write(self._place(record) + ".json", _facts(record))
            case Text(text=text):
                self._link(self._place(record) + ".md", text.encode("utf-8", "backslashreplace"))
                self._write(self._place(record) + ".facts.json", _facts(record))
            case Table():
                self._table(record)
            case _:
                self._files(record)
        return [record.tag] if hasattr(record, "tag") and file_key(record.tag) != record.tag else []

    def lines(self, path: str, lines: list[str]) -> None:
        self._link(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))

    def json(self, path: str, value: Any) -> None:
        self._write(path, value)

    @property
    def is_empty(self) -> bool:
        return not any(self.folder.iterdir())

    def _place(self, record: Any) -> str:
        step = shown_step(record.step)
        mark = digest(json.dumps(msgspec.to_builtins(record), default=str, sort_keys=True))
        return f"tracelet/{kind(record)}/{file_key(record.tag)}/{stem(record.tag, step, record.wall_time, mark)}"

    def _view(self, key: str, record: Any, form: str, data: bytes) -> None:
        """A picture, and the small copy without which the view shows nothing."""
        self.images = True
        name = image_stem(key, shown_step(record.step), record.wall_time, digest(f"{record.tag} {data!r}"))
        self._link(f"images/{name}.{form}", data)
        small, small_form = (data, form) if len(data) <= _SMALL else (_thumbnail(data), "webp")
        self._link(f"images/{name}+compressed.{small_form}", small)

    def _picture(self, record: Any, group: str, data: bytes) -> None:
        self._view(f"{group}/{file_key(record.tag)}", record, "png", data)

    def _table(self, record: Table) -> None:
        """As `mlflow.load_table` and the table view read it; where that loses a NaN, the exact rows beside it."""
        told = json.loads(content(record.data))
        place = self._place(record)
        rows = {"columns": [str(name) for name in told["columns"]], "data": [list(row) for row in told["rows"]]}
        readable = strict(rows)
        self._write(f"{place}.json", readable)
        self._write(f"{place}.facts.json", _facts(record) | ({} if readable == rows else {"rows": rows["data"]}))
        self.tables.append(f"{place}.json")

    def _files(self, record: Any) -> None:
        payloads, facts = files(record)
        place, stored = self._place(record), {}
        for at, (name, data) in enumerate(payloads.items()):
            suffix = Path(name).suffix or _suffix(record)
            path = f"{place}{suffix}" if len(payloads) == 1 else f"{place}/{artifact_path(f'{at}-{Path(name).name}')}"
            self._link(path, data)
            stored[path.rpartition("/")[2]] = name
        self._write(f"{place}.facts.json", facts | {"kind": kind(record), "files": stored})

    def _artifact(self, artifact: Artifact) -> None:
        stored = {}
        for name, data in entries(artifact).items():
            path = artifact_path(name)
            self._link(path, data)
            stored[path] = name
        renamed = any(path != name for path, name in stored.items())
        if renamed or artifact.metadata or artifact.type != "file":
            facts: dict[str, Any] = {"name": artifact.name, "type": artifact.type, "metadata": artifact.metadata}
            facts |= {"wall_time": artifact.wall_time, "files": stored}
            name = stem(artifact.name, 0, artifact.wall_time, artifact.type)
            self._write(f"tracelet/artifact/{name}.facts.json", facts)

    def _write(self, path: str, value: Any) -> None:
        self._link(path, json.dumps(value, indent=1, default=str).encode())

    def _link(self, path: str, data: Payload) -> None:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        if isinstance(data, bytes):
            place.write_bytes(data)
        else:
            try:
                os.link(data.path, place)  # a large model need not be copied a second time
            except OSError:
                shutil.copyfile(data.path, place)
        self.largest = max(self.largest, place.stat().st_size)


def _facts(record: Any) -> dict[str, Any]:
    told: Mapping[str, Any] = msgspec.structs.asdict(record)
    return {name: value for name, value in told.items() if name != "data"} | {"step": shown_step(record.step)}


def _suffix(record: Any) -> str:
    form = getattr(record, "format", "pb" if kind(record) in ("graph", "raw") else "bin")
    return f".{form}" if form.isalnum() and form.isascii() else ".bin"


def _thumbnail(data: bytes) -> bytes:
    image = _opened(data)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return _saved(image, "WEBP")


def _as_png(data: bytes) -> bytes:
    return _saved(_opened(data), "PNG")


def _opened(data: bytes) -> Any:
    from PIL import Image as Pillow

    image = Pillow.open(io.BytesIO(data))
    image.load()
    return image


def _saved(image: Any, form: str) -> bytes:
    out = io.BytesIO()
    image.convert("RGBA" if image.mode in ("RGBA", "LA", "P", "PA") else "RGB").save(out, form)
    return out.getvalue()
