"""What a ClearML session really holds: a reader for the tests that shares no line with the adapter.

An offline session is a folder: `metrics.jsonl` (each line a list of events), `task.json`, and the files below `data`.
The events of a server have the same form.
"""

from __future__ import annotations

import collections
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tracelet.testing import Stored

Event = dict[str, Any]
SINGLE = ("Summary", -(2**31))
_ALERT = re.compile(r"# .*?\n\n(?:(.*)\n\n)?(info|warning|error), \S+\n", re.DOTALL)
_LABEL = re.compile(r" \[(tensor|mesh|embedding|graph|layout|raw|table)\](?: (.*))?$", re.DOTALL)


def sessions(cache: Path) -> list[Path]:
    """The folders of the offline sessions below a CLEARML_CACHE_DIR, oldest first."""
    found = [path for path in (cache / "offline").glob("offline-*") if path.is_dir()]
    return sorted(found, key=lambda path: path.stat().st_ctime_ns)


def events(folder: Path) -> list[Event]:
    """Every event of an offline session, in the order of the file."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
    assert lines[-1] == "", "the last line is not whole"
    return [event for line in lines[:-1] for event in json.loads(line)]


def description(folder: Path) -> Event:
    """The task's own fields."""
    found: Event = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    return found


def read(cache: Path) -> Stored:
    """Everything in the sessions below a CLEARML_CACHE_DIR, as one run."""
    whole = blank()
    for folder in sessions(cache):
        tell(events(folder), description(folder), _local(folder), whole)
    return whole


def blank() -> Stored:
    found = Stored(
        scalars=[], params={}, texts=[], images={}, histograms=[], artifacts={}, counts=collections.Counter()
    )
    found.summary, found.tags, found.alerts = {}, [], []
    return found


def _local(folder: Path) -> Callable[[str], bytes]:
    def load(uri: str) -> bytes:
        # ClearML quotes an artifact's address, and not that of a medium.
        plain = re.sub("%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), uri)
        path = next(path for path in (uri, plain) if os.path.exists(path))
        assert folder in Path(path).parents
        return Path(path).read_bytes()

    return load


def tell(found: Iterable[Event], task: Event, load: Callable[[str], bytes], into: Stored) -> None:
    """Add events and fields of a task, in neutral words."""
    counts: Any = into.counts
    for event in found:
        match event["type"]:
            case "training_stats_scalar" if (event["metric"], event["iter"]) == SINGLE:
                continue
            case "training_stats_scalar" if not event["metric"].startswith(":monitor:"):
                point = tag(event), event["iter"], event["value"], event["timestamp"] / 1000
                into.scalars.append(point)  # type: ignore[union-attr]
            case "log" if event["msg"].startswith("tracelet point: "):
                told = json.loads(event["msg"].partition(": ")[2])
                odd = told["tag"], told["step"], float(told["value"]), told["wall_time"]
                into.scalars.append(odd)  # type: ignore[union-attr]
            case "plot":
                _plot(event, into)
            case "training_debug_image":
                _medium(event, load(event["url"]), into)
    if "tracelet_params" in (task.get("configuration") or {}):
        into.params.update(json.loads(task["configuration"]["tracelet_params"]["value"]))  # type: ignore[union-attr]
    if "tracelet_summary" in (task.get("configuration") or {}):
        into.summary.update(json.loads(task["configuration"]["tracelet_summary"]["value"]))  # type: ignore[union-attr]
    into.tags = list(task.get("tags") or ())
    artifacts = (task.get("execution") or {}).get("artifacts") or []
    into.artifacts.update({one["key"]: load(one["uri"]) for one in artifacts})  # type: ignore[union-attr]
    counts["artifact"] += len({one["key"].split("/")[0] for one in artifacts})


def tag(event: Event) -> str:
    """The tag behind a metric and a variant, by the rules of docs/backends/clearml.md."""
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


def _plot(event: Event, into: Stored) -> None:
    plot = json.loads(event["plot_str"], parse_constant=_refuse)
    (trace,) = plot["data"]
    exact = json.loads(plot["layout"]["meta"]["tracelet"])
    kind = {"bar": "histogram", "scatter": "pr_curve", "table": "table"}[trace["type"]]
    into.counts[kind] += 1  # type: ignore[index]
    assert exact["tag"] == tag(event)
    if kind == "histogram":
        buckets = tuple(exact["limits"]), tuple(exact["counts"])
        into.histograms.append((exact["tag"], event["iter"], *buckets))  # type: ignore[union-attr]


def _refuse(literal: str) -> None:
    raise AssertionError(f"{literal} in a plot: no browser reads it")


def _medium(event: Event, data: bytes, into: Stored) -> None:
    label = _LABEL.search(event["variant"])
    if label is not None:
        if label[2] is None and label[1] != "table":
            assert label[1] == json.loads(data)["kind"]
            into.counts[label[1]] += 1  # type: ignore[index]
        return
    kinds = {".md": "text", ".png": "image", ".jpeg": "image", ".wav": "audio", ".gif": "video", ".mp4": "video"}
    kind = kinds[Path(event["url"]).suffix]
    if tag(event).startswith("alerts/"):
        page = _ALERT.fullmatch(data.decode())
        assert page is not None
        into.alerts.append((tag(event)[len("alerts/") :], page[1] or "", page[2]))  # type: ignore[union-attr]
        return
    into.counts[kind] += 1  # type: ignore[index]
    if kind == "image":
        into.images[tag(event), event["iter"]] = data  # type: ignore[index]
    elif kind == "text":
        into.texts.append((tag(event), event["iter"], data.decode()))  # type: ignore[union-attr]
