"""Define a third party's backend, which writes JSON lines, and read its file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from backends.csv_store import lines
from backends.store_content import StoreContent

from tracelet.backends.base import Backend, Batch, Status, Written, write_each
from tracelet.records import Artifact, File, Image, Params, Payload, Record, RunInfo, Scalar, Table, shown_step


def _text(data: Payload) -> str:
    assert isinstance(data, File)
    return base64.b64encode(Path(data.path).read_bytes()).decode()


class LinesBackend(Backend):
    """Append a line of JSON for each record, with the bytes of files."""

    name, accepts = "lines", (Scalar, Params, Image, Table, Artifact)

    def open(self, run: RunInfo) -> None:
        self._file = open(Path(run.folder, "records.jsonl"), "a", encoding="utf-8")  # noqa: SIM115

    def write(self, batch: Batch) -> Written | None:
        return write_each(batch, lambda record: self._file.write(json.dumps(self._entry(record)) + "\n"))

    def flush(self) -> None:
        self._file.flush()

    def close(self, status: Status, exit_code: int) -> None:
        self._file.close()

    def _entry(self, record: Record) -> dict[str, Any]:
        match record:
            case Scalar(tag, value, step, wall_time):
                return {"kind": "scalar", "tag": tag, "step": shown_step(step), "value": value, "wall_time": wall_time}
            case Params(values):
                return {"kind": "params", "values": dict(values)}
            case Image(tag, data):
                return {"kind": "image", "tag": tag, "step": shown_step(record.step), "data": _text(data)}
            case Table(tag, data, step):
                return {"kind": "table", "tag": tag, "step": shown_step(step), "data": _text(data)}
            case Artifact(name, files):
                paths = [
                    name if record.type == "file" and not name.endswith("/") else f"{name}/{f.name}" for f in files
                ]
                found = {path.replace("//", "/"): _text(file) for path, file in zip(paths, files, strict=True)}
                return {"kind": "artifact", "files": found}
        raise AssertionError(record)


def _file(folder: Path) -> Path:
    return next(folder.glob("runs/*/*/records.jsonl"))


def stored(folder: Path) -> StoreContent:
    """Return the content of the only run, without its tables."""
    content = StoreContent()
    for line in lines(_file(folder)):
        match line["kind"]:
            case "scalar":
                content.scalars.append((line["tag"], line["step"], line["value"], line["wall_time"]))
            case "params":
                content.params.update(line["values"])
            case "image":
                content.images[line["tag"], line["step"]] = base64.b64decode(line["data"])
            case "artifact":
                content.artifacts.update({name: base64.b64decode(data) for name, data in line["files"].items()})
    return content


def tables(folder: Path) -> list[tuple[str, int, dict[str, Any]]]:
    """Return tag, step and content of each table of the only run."""
    found = [line for line in lines(_file(folder)) if line["kind"] == "table"]
    return [(line["tag"], line["step"], json.loads(base64.b64decode(line["data"]))) for line in found]
