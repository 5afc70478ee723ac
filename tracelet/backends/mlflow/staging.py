"""Convert records that are no numbers to artifact files, without importing MLflow.

`images/` is for MLflow's image view; other files are below `tracelet/<kind>/<tag>/`.
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
from tracelet.backends.paths import Paths
from tracelet.backends.presentation import (
    alert_page,
    artifact_files,
    curve_png,
    histogram_facts,
    histogram_png,
    read_payload,
    record_files,
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

_VIEW_FORMATS = ("png", "webp")
_THUMBNAIL_SIZE = 256
_SMALL_BYTES = 32 * 1024


class Stage:
    """A folder of files to upload, with their paths in the run."""

    def __init__(self, folder: Path, paths: Paths) -> None:
        self.folder = folder
        self._paths = paths
        self.images = False
        self.tables: list[str] = []
        self.largest = 0

    def put(self, record: Record) -> list[str]:
        """Write the files of a record, and return its tag if the file key differs.

        Raises:
            OSError, ValueError: a payload is missing or invalid.
        """
        match record:
            case Artifact():
                self._artifact(record)
                return []
            case Alert():
                path = f"tracelet/alert/{stem(record.title, 0, record.wall_time, record.level, record.text)}"
                self._link(f"{path}.md", alert_page(record).encode("utf-8", "backslashreplace"))
                self._write(f"{path}.facts.json", msgspec.structs.asdict(record))
            case Image(data=data, format=form) if form in _VIEW_FORMATS:
                self._view(file_key(record.tag), record, form, read_payload(data))
            case Image(data=data):
                self._files(record)
                self._view(file_key(record.tag), record, "png", _as_png(read_payload(data)))
            case Histogram():
                self._chart(record, "histograms", histogram_png(record))
                self._write(self._path(record) + ".json", histogram_facts(record, shown_step(record.step)))
            case PRCurve():
                self._chart(record, "pr_curves", curve_png(record))
                self._write(self._path(record) + ".json", _facts(record))
            case Text(text=text):
                self._link(self._path(record) + ".md", text.encode("utf-8", "backslashreplace"))
                self._write(self._path(record) + ".facts.json", _facts(record))
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

    def _path(self, record: Any) -> str:
        step = shown_step(record.step)
        identity = digest(json.dumps(msgspec.to_builtins(record), default=str, sort_keys=True))
        return f"tracelet/{kind(record)}/{file_key(record.tag)}/{stem(record.tag, step, record.wall_time, identity)}"

    def _view(self, key: str, record: Any, form: str, data: bytes) -> None:
        """Write an image and a small copy, without which the image view is empty."""
        self.images = True
        name = image_stem(key, shown_step(record.step), record.wall_time, digest(f"{record.tag} {data!r}"))
        self._link(f"images/{name}.{form}", data)
        small, small_form = (data, form) if len(data) <= _SMALL_BYTES else (_thumbnail(data), "webp")
        self._link(f"images/{name}+compressed.{small_form}", small)

    def _chart(self, record: Any, group: str, data: bytes) -> None:
        self._view(f"{group}/{file_key(record.tag)}", record, "png", data)

    def _table(self, record: Table) -> None:
        """Write a table for `mlflow.load_table` and the table view. If that loses a NaN, the facts have exact rows."""
        table = json.loads(read_payload(record.data))
        path = self._path(record)
        rows = {"columns": [str(name) for name in table["columns"]], "data": [list(row) for row in table["rows"]]}
        readable = strict(rows)
        self._write(f"{path}.json", readable)
        self._write(f"{path}.facts.json", _facts(record) | ({} if readable == rows else {"rows": rows["data"]}))
        self.tables.append(f"{path}.json")

    def _files(self, record: Any) -> None:
        payloads, facts = record_files(record)
        base, stored = self._path(record), {}
        for index, (name, data) in enumerate(payloads.items()):
            suffix = Path(name).suffix or _suffix(record)
            path = f"{base}{suffix}" if len(payloads) == 1 else f"{base}/{artifact_path(f'{index}-{Path(name).name}')}"
            self._link(path, data)
            stored[path.rpartition("/")[2]] = name
        self._write(f"{base}.facts.json", facts | {"kind": kind(record), "files": stored})

    def _artifact(self, artifact: Artifact) -> None:
        stored = {}
        for name, data in artifact_files(artifact).items():
            path = self._paths.assign(name, artifact_path(name))
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
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        if isinstance(data, bytes):
            file.write_bytes(data)
        else:
            try:
                os.link(data.path, file)  # avoids a second copy of a large model
            except OSError:
                shutil.copyfile(data.path, file)
        self.largest = max(self.largest, file.stat().st_size)


def _facts(record: Any) -> dict[str, Any]:
    fields: Mapping[str, Any] = msgspec.structs.asdict(record)
    return {name: value for name, value in fields.items() if name != "data"} | {"step": shown_step(record.step)}


def _suffix(record: Any) -> str:
    form = getattr(record, "format", "pb" if kind(record) in ("graph", "raw") else "bin")
    return f".{form}" if form.isalnum() and form.isascii() else ".bin"


def _thumbnail(data: bytes) -> bytes:
    image = _decode(data)
    image.thumbnail((_THUMBNAIL_SIZE, _THUMBNAIL_SIZE))
    return _encode(image, "WEBP")


def _as_png(data: bytes) -> bytes:
    return _encode(_decode(data), "PNG")


def _decode(data: bytes) -> Any:
    from PIL import Image as Pillow

    image = Pillow.open(io.BytesIO(data))
    image.load()
    return image


def _encode(image: Any, form: str) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGBA" if image.mode in ("RGBA", "LA", "P", "PA") else "RGB").save(buffer, form)
    return buffer.getvalue()
