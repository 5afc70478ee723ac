"""Read event files with TensorBoard's own loader, without any code of the adapter."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterator
from ctypes import c_float
from pathlib import Path
from typing import Any

from backends.csv_store import lines
from backends.store_content import StoreContent
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.plugins.scalar.plugin_data_pb2 import ScalarPluginData

_KINDS = {"text": "text", "pr_curves": "pr_curve", "tensor": "tensor", "graphs": "graph", "custom_scalars": "layout"}


def values(folder: Path) -> Iterator[tuple[str, Any, Any]]:
    """Yield tag with folder, event and value of each summary; None for the value of other events."""
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        place = path.parent.relative_to(folder).as_posix()
        prefix = "" if place == "." else f"{place}/"
        for event in LegacyEventFileLoader(str(path)).Load():
            if event.HasField("summary"):
                for value in event.summary.value:
                    yield prefix + value.tag, event, value
            elif not event.file_version:
                yield prefix, event, None


def _number(value: Any) -> float:
    """Return the value that TensorBoard shows, or the exact one behind it: a field that it does not know."""
    shown: float = value.simple_value
    content = value.metadata.plugin_data.content
    if not content:
        return shown
    key, exact = struct.unpack("<Bd", content)
    assert 0 == ScalarPluginData.FromString(content).version
    assert (0x79, "scalars", c_float(exact).value) == (key, value.metadata.plugin_data.plugin_name, shown)
    return float(exact)


def stored(folder: Path) -> StoreContent:
    """Return the content of a run's log directory."""
    content = StoreContent(counts=Counter())
    content.scalars, content.texts, content.histograms, content.images = [], [], [], {}
    counts: Counter[str] = Counter()
    for tag, event, value in values(folder):
        if value is None:
            counts["graph"] += event.WhichOneof("what") == "graph_def"
            continue
        plugin = value.metadata.plugin_data.plugin_name
        match value.WhichOneof("value"):
            case "simple_value":
                content.scalars.append((tag, event.step, _number(value), event.wall_time))
            case "histo":
                histogram = value.histo
                content.histograms.append((tag, event.step, tuple(histogram.bucket_limit), tuple(histogram.bucket)))
            case "image":
                data = value.image.encoded_image_string
                if data.startswith(b"GIF"):
                    counts["video"] += 1
                else:
                    content.images[tag, event.step] = data
            case "audio":
                counts["audio"] += 1
            case "tensor" if plugin == "text" and not value.tensor.tensor_shape.dim:
                content.texts.append((tag, event.step, value.tensor.string_val[0].decode()))
            case "tensor" if plugin == "text":
                counts["table"] += 1
            case "tensor" if plugin in _KINDS:
                counts[_KINDS[plugin]] += 1
            case "tensor" if plugin == "mesh":
                counts["mesh"] += tag.endswith("_VERTEX")
            case _ if plugin == "hparams":
                pass
            case _:
                counts["raw"] += 1
    counts["embedding"] = len(list(folder.rglob("*/*/tensors.tsv")))
    json_files = {
        name: json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        for name in ("params.json", "summary.json", "run.json")
    }
    content.params, content.summary = json_files["params.json"], json_files["summary.json"]
    content.tags = json_files["run.json"]["tags"]
    content.alerts = [(alert["title"], alert["text"], alert["level"]) for alert in lines(folder / "alerts.jsonl")]
    files = [file for artifact in lines(folder / "artifacts.jsonl") for file in artifact["files"]]
    content.artifacts = {file["name"]: (folder / file["path"]).read_bytes() for file in files}
    content.counts = counts
    return content
