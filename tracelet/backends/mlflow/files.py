"""Convert records that are no numbers to artifact files, without importing MLflow.

`images/` is for MLflow's image view; other files are below `tracelet/<kind>/<tag>/`.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec

from tracelet import records as r
from tracelet.backends import presentation
from tracelet.backends.mlflow.values import artifact_path, digest, file_key, image_stem, stem, strict
from tracelet.backends.paths import Paths
from tracelet.backends.presentation import read_payload
from tracelet.backends.staging import stage
from tracelet.filesystem import make_private

_VIEW_FORMATS = ("png", "webp")
_THUMBNAIL_SIZE, _SMALL_BYTES = 256, 32 * 1024


class Stage:
    """A folder of files to upload, with their paths in the run. Beside the spool, files in it can be hard links.

    `tables` are entries of MLflow's table view. `largest`: the bytes of the largest file; None if there is none.
    """

    def __init__(self, folder: Path, paths: Paths) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        make_private(folder)
        self.folder = folder
        self._paths = paths
        self.images = False
        self.tables: list[dict[str, str]] = []
        self.largest: int | None = None

    def put(self, record: r.Record) -> None:
        """Write the files of a record.

        Raises:
            RecordRejected, OSError, ValueError: a payload is missing or invalid.
        """
        match record:
            case r.Artifact():
                self._artifact(record)
            case r.Alert():
                path = f"tracelet/alert/{stem(record.title, 0, record.wall_time, record.level, record.text)}"
                self.text(f"{path}.md", presentation.alert_page(record))
                self.json(f"{path}.facts.json", msgspec.structs.asdict(record))
            case r.Image(data=data, format=form) if form in _VIEW_FORMATS:
                self._view(record, form, read_payload(data))
            case r.Image(data=data):
                self._files(record)
                self._view(record, "png", _converted(read_payload(data), "png"))
            case r.Histogram():
                self._put(f"{(path := _path(record))}.png", presentation.histogram_png(record))
                self.json(f"{path}.json", presentation.histogram_facts(record, r.shown_step(record.step)))
            case r.PRCurve():
                self._put(f"{(path := _path(record))}.png", presentation.curve_png(record))
                self.json(f"{path}.json", _facts(record))
            case r.Text():
                self.text(f"{(path := _path(record))}.md", record.text)
                self.json(f"{path}.facts.json", _facts(record))
            case r.Table():
                self._table(record)
            case _:
                self._files(record)

    def file(self, path: str, data: bytes) -> None:
        self._put(path, data)

    def text(self, path: str, text: str) -> None:
        self._put(path, text.encode("utf-8", "backslashreplace"))

    def json(self, path: str, value: Any) -> None:
        self._put(path, json.dumps(value, indent=1, default=str).encode())

    def _put(self, path: str, data: r.Payload) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        stage(data, file)
        self.largest = max(self.largest or 0, file.stat().st_size)

    def _view(self, image: r.Image, form: str, data: bytes) -> None:
        """Write an image and a small copy, without which the image view is empty."""
        self.images = True
        if image.caption:  # the image view has no place for it
            self.text(f"{_path(image)}.caption.md", image.caption)
        identity = digest(f"{image.tag} {data!r}")
        name = image_stem(file_key(image.tag), r.shown_step(image.step), image.wall_time, identity)
        self._put(f"images/{name}.{form}", data)
        small, small_form = (
            (data, form) if len(data) <= _SMALL_BYTES else (_converted(data, "webp", _THUMBNAIL_SIZE), "webp")
        )
        self._put(f"images/{name}+compressed.{small_form}", small)

    def _table(self, record: r.Table) -> None:
        """Write a table for `mlflow.load_table` and the table view. If that loses a NaN, the facts have exact rows."""
        table, path = json.loads(read_payload(record.data)), _path(record)
        rows = {"columns": [str(name) for name in table["columns"]], "data": [list(row) for row in table["rows"]]}
        readable = strict(rows)
        self.json(f"{path}.json", readable)
        self.json(f"{path}.facts.json", _facts(record) | ({} if readable == rows else {"rows": rows["data"]}))
        self.tables.append({"path": f"{path}.json", "type": "table"})

    def _files(self, record: Any) -> None:
        payloads, facts = presentation.record_files(record)
        base, stored = _path(record), {}
        for index, (name, data) in enumerate(payloads.items()):
            suffix = Path(name).suffix or _suffix(record)
            path = f"{base}{suffix}" if len(payloads) == 1 else f"{base}/{artifact_path(f'{index}-{Path(name).name}')}"
            self._put(path, data)
            stored[path.rpartition("/")[2]] = name
        self.json(f"{base}.facts.json", facts | {"kind": r.kind(record), "files": stored})

    def _artifact(self, artifact: r.Artifact) -> None:
        stored = {}
        for name, data in presentation.files_of_run(artifact).items():
            path = self._paths.assign(name, artifact_path(name))
            self._put(path, data)
            stored[path] = name
        if any(path != name for path, name in stored.items()) or artifact.metadata or artifact.type != "file":
            name = stem(artifact.name, 0, artifact.wall_time, artifact.type)
            facts = msgspec.structs.asdict(artifact) | {"files": stored}
            self.json(f"tracelet/artifact/{name}.facts.json", facts)


def _path(record: Any) -> str:
    """Return the path of a record's files without a suffix."""
    identity = digest(json.dumps(msgspec.to_builtins(record), default=str, sort_keys=True))
    name = stem(record.tag, r.shown_step(record.step), record.wall_time, identity)
    return f"tracelet/{r.kind(record)}/{file_key(record.tag)}/{name}"


def _facts(record: Any) -> dict[str, Any]:
    fields = msgspec.structs.asdict(record)
    fields.pop("data", None)
    return fields | {"step": r.shown_step(record.step)}


def _suffix(record: Any) -> str:
    form = getattr(record, "format", "pb" if r.kind(record) in ("graph", "raw") else "bin")
    return f".{form}" if form.isalnum() and form.isascii() else ".bin"


def _converted(data: bytes, form: str, max_size: int | None = None) -> bytes:
    """Return an image in another format, at most `max_size` pixels wide and high."""
    from PIL import Image as Pillow

    image: Any = Pillow.open(io.BytesIO(data))
    image.load()
    if max_size is not None:
        image.thumbnail((max_size, max_size))
    buffer = io.BytesIO()
    image.convert("RGBA" if image.mode in ("RGBA", "LA", "P", "PA") else "RGB").save(buffer, form)
    return buffer.getvalue()
