"""Read a ClearML session for the tests, without any code of the adapter.

An offline session is a folder: `metrics.jsonl` (each line a list of events), `task.json`, and the files below `data`.
The events of a server have the same form.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from backends.store_content import StoreContent

Event = dict[str, Any]
SINGLE = ("Summary", -(2**31))
_ALERT = re.compile(r"# .*?\n\n(?:(.*)\n\n)?(info|warning|error), \S+\n", re.DOTALL)
_LABEL = re.compile(r" \[(tensor|mesh|embedding|graph|layout|raw|table)\](?: (.*))?$", re.DOTALL)


def sessions(cache: Path) -> list[Path]:
    """Return the folders of the offline sessions below a CLEARML_CACHE_DIR, oldest first."""
    found = [path for path in (cache / "offline").glob("offline-*") if path.is_dir()]
    return sorted(found, key=lambda path: path.stat().st_ctime_ns)


def events(folder: Path) -> list[Event]:
    """Return every event of an offline session, in the order of the file."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
    assert lines[-1] == "", "the last line is incomplete"
    return [event for line in lines[:-1] for event in json.loads(line)]


def description(folder: Path) -> Event:
    """Return the task's fields."""
    found: Event = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    return found


def read(cache: Path) -> StoreContent:
    """Return the content of all sessions below a CLEARML_CACHE_DIR."""
    content = StoreContent()
    for folder in sessions(cache):
        add(events(folder), description(folder), _local(folder), content)
    return content


def _local(folder: Path) -> Callable[[str], bytes]:
    def load(uri: str) -> bytes:
        # ClearML quotes the address of an artifact, but not that of media.
        plain = re.sub("%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), uri)
        path = next(path for path in (uri, plain) if os.path.exists(path))
        assert folder in Path(path).parents
        return Path(path).read_bytes()

    return load


def add(events: Iterable[Event], task: Event, load: Callable[[str], bytes], content: StoreContent) -> None:
    """Add the events and the fields of a task to `content`. `load(address)` reads a file."""
    for event in events:
        match event["type"]:
            case "training_stats_scalar" if (event["metric"], event["iter"]) == SINGLE:
                continue
            case "training_stats_scalar" if not event["metric"].startswith(":monitor:"):
                content.scalars.append((tag(event), event["iter"], event["value"], event["timestamp"] / 1000))
            case "log" if event["msg"].startswith("tracelet point: "):
                point = json.loads(event["msg"].partition(": ")[2])
                content.scalars.append((point["tag"], point["step"], float(point["value"]), point["wall_time"]))
            case "plot":
                _add_plot(event, content)
            case "training_debug_image":
                _add_media(event, load(event["url"]), content)
    if "tracelet_params" in (task.get("configuration") or {}):
        content.params.update(json.loads(task["configuration"]["tracelet_params"]["value"]))
    if "tracelet_summary" in (task.get("configuration") or {}):
        content.summary.update(json.loads(task["configuration"]["tracelet_summary"]["value"]))
    content.tags = list(task.get("tags") or ())
    artifacts = (task.get("execution") or {}).get("artifacts") or []
    content.artifacts.update({artifact["key"]: load(artifact["uri"]) for artifact in artifacts})
    content.counts["artifact"] += len({artifact["key"].split("/")[0] for artifact in artifacts})


def tag(event: Event) -> str:
    """Return the tag of a metric and a variant, by the rules of docs/backends/clearml.md."""
    title, series = event["metric"], event["variant"]
    if title == series:
        return _plain(title)
    above, last = title.lstrip("~"), series.lstrip("~")
    if above == last and len(series) > len(title):
        series = series[1:]
    return f"{_plain(title)}/{_plain(series)}"


def _plain(name: str) -> str:
    if name == "%":
        return ""
    return re.sub("%(?:u([0-9A-F]{4})|([0-9A-F]{2}))", lambda found: chr(int(found[1] or found[2], 16)), name)


def _add_plot(event: Event, content: StoreContent) -> None:
    plot = json.loads(event["plot_str"], parse_constant=_refuse)
    (trace,) = plot["data"]
    exact = json.loads(plot["layout"]["meta"]["tracelet"])
    kind = {"bar": "histogram", "scatter": "pr_curve", "table": "table"}[trace["type"]]
    content.counts[kind] += 1
    assert exact["tag"] == tag(event)
    if kind == "histogram":
        buckets = tuple(exact["limits"]), tuple(exact["counts"])
        content.histograms.append((exact["tag"], event["iter"], *buckets))


def _refuse(literal: str) -> None:
    raise AssertionError(f"{literal} in a plot: browsers cannot parse it")


def _add_media(event: Event, data: bytes, content: StoreContent) -> None:
    label = _LABEL.search(event["variant"])
    if label is not None:
        if label[2] is None and label[1] != "table":
            assert label[1] == json.loads(data)["kind"]
            content.counts[label[1]] += 1
        return
    kinds = {".md": "text", ".png": "image", ".jpeg": "image", ".wav": "audio", ".gif": "video", ".mp4": "video"}
    kind = kinds[Path(event["url"]).suffix]
    if tag(event).startswith("alerts/"):
        page = _ALERT.fullmatch(data.decode())
        assert page is not None
        content.alerts.append((tag(event)[len("alerts/") :], page[1] or "", page[2]))
        return
    content.counts[kind] += 1
    if kind == "image":
        content.images[tag(event), event["iter"]] = data
    elif kind == "text":
        content.texts.append((tag(event), event["iter"], data.decode()))
