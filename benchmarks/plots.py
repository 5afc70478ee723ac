"""Draws the saved figures as `docs/pictures/speed-*.png`: `python -m benchmarks.plots [FIGURES FOLDER]`."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from benchmarks import captures, pairs, training
from benchmarks.turns import ROOT

FIGURES, PICTURES = ROOT / "benchmarks" / "figures.json", ROOT / "docs" / "pictures"
WIDTH, DPI = 7.0, 110
"""Inches, and dots for each of them; pages show the pictures about 700 pixels wide."""
PLAIN, OURS, PROCESS, OTHER = "#8c8c8c", "#d1495b", "#00798c", "#edae49"

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
Drawing = Callable[[Any], "Figure | None"]


def main(figures: Path, folder: Path) -> None:
    taken = json.loads(figures.read_text(encoding="utf-8"))
    for name, (report, draw) in DRAWINGS.items():
        if report in taken and (figure := draw(taken[report]["found"])) is not None:
            path = folder / f"speed-{name}.png"
            figure.savefig(path, dpi=DPI, pil_kwargs={"optimize": True})
            print(f"{path} ({path.stat().st_size / 1024:.0f} KiB)")


# One row of bars or dots each: the median with its range.


def _bars(rows: Rows, key: str, label: str, *, log: bool = False, at: float | None = None) -> Figure:
    there = {row: [one[key] for one in turns if key in one] for row, turns in rows.items()}
    there = {row: values for row, values in there.items() if values}
    figure = Figure(figsize=(WIDTH, 0.8 + 0.27 * len(there)), layout="constrained")
    chart = figure.subplots()
    places = range(len(there))
    middles = [statistics.median(values) for values in there.values()]
    below = [middle - min(values) for middle, values in zip(middles, there.values(), strict=True)]
    above = [max(values) - middle for middle, values in zip(middles, there.values(), strict=True)]
    if log:  # a bar has no foot there
        chart.set_xscale("log")
        chart.xaxis.set_major_formatter("{x:g}")
        chart.scatter(middles, places, s=40, color=list(map(_color, there)), zorder=3)
        chart.errorbar(middles, places, xerr=(below, above), fmt="none", ecolor="#333333", capsize=2)
    else:
        chart.barh(places, middles, xerr=(below, above), color=list(map(_color, there)), ecolor="#333333", capsize=2)
    for place, middle, over in zip(places, middles, above, strict=True):
        chart.annotate(
            f"{middle:,.3g}", (middle + over, place), (5, 0), textcoords="offset points", va="center", fontsize=8
        )
    chart.set_yticks(places, [row.replace("`", "") for row in there], fontsize=9)
    chart.invert_yaxis()
    chart.margins(x=0.12, y=0.03)
    if at is not None:
        chart.axvline(at, color="#333333", linewidth=0.8, linestyle="--")
    _finish(chart, label, "x")
    return figure


def _color(row: str) -> str:
    if row in (training.NOTHING, training.ALONE):
        return PLAIN
    if row in captures.NAMES.values() or row.endswith(("no pauses", "by hand")):
        return OTHER
    return PROCESS if row.endswith("process") else OURS


def _finish(chart: Axes, label: str, axis: Literal["x", "y"]) -> None:
    (chart.set_xlabel if axis == "x" else chart.set_ylabel)(label, fontsize=9)
    chart.tick_params(labelsize=9)
    chart.grid(visible=True, axis=axis, alpha=0.3)
    chart.set_axisbelow(True)
    for side in ("top", "right"):
        chart.spines[side].set_visible(False)


def _loops(found: Any) -> Figure:
    return _bars(
        found["rows"], "ratio", "20,000 add_scalar in a tight loop: its time to that of TensorBoard alone", at=1.0
    )


def _stalls(found: Any) -> Figure:
    alone = [{"stall_ms": one["plain_stall_ms"]} for turns in found["rows"].values() for one in turns]
    rows = {training.ALONE: alone, **found["rows"]}
    return _bars(rows, "stall_ms", "longest single add_scalar of 20,000, ms", log=True)


def _start(found: Any) -> Figure:
    return _bars(found["rows"], "start_ms", "start_logging(wait=False), ms")


def _training(found: Any) -> Figure:
    return _bars(found["rows"], "kept", "steps per second of a small training, to those without logging", at=1.0)


def _vendors(found: Any) -> Figure:
    rows = {row: turns for row, turns in found["rows"].items() if all(one["submitted"] >= 20_000 for one in turns)}
    return _bars(rows, "end_to_end_s", "20,000 scalars in the vendor's store, s")


def _calls(found: Any) -> Figure | None:
    if not found:
        return None
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    for chart, name in zip(figure.subplots(1, 3), ("add_scalar", "add_histogram", "add_image"), strict=True):
        rows = [row for row in pairs.ROWS if row.startswith(name) and row in found]
        unit = pairs.UNITS[pairs.ROWS[name].unit]
        spreads = [found[name]["plain"], *(found[row]["attached"] for row in rows)]
        labels = ["Tensor-\nBoard", "a run\nbeside", f"events\n{'off' if name == 'add_scalar' else 'async'}"][
            : len(rows) + 1
        ]
        _columns(chart, spreads, labels)
        chart.set_title(name, family="monospace", fontsize=10)
        _finish(chart, f"{unit} a call", "y")
    return figure


def _columns(chart: Axes, spreads: Sequence[Sequence[float]], labels: Sequence[str]) -> None:
    middles = [middle for _, middle, _ in spreads]
    around = ([middle - low for low, middle, _ in spreads], [high - middle for _, middle, high in spreads])
    chart.bar(range(len(spreads)), middles, yerr=around, color=[PLAIN, OURS, PROCESS], ecolor="#333333", capsize=3)
    for place, (_, middle, high) in enumerate(spreads):
        chart.annotate(f"{middle:,.3g}", (place, high), (0, 3), textcoords="offset points", ha="center", fontsize=8)
    chart.set_xticks(range(len(spreads)), labels)
    chart.margins(y=0.12)


# Lines: what grows, along x.


def _cost(found: Any, kind: str, label: str) -> Figure | None:
    """Microseconds a record, of the call and to the end of stop, by store."""
    lines = _lines(found, kind)
    if not lines:
        return None
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    chart = figure.subplots()
    for number, (store, points) in enumerate(lines.items()):
        for key, style in (("caller_us", "-"), ("whole_us", "--")):
            told = "the call" if key == "caller_us" else "to the end of stop"
            places = [count for count, _ in points]
            values = [statistics.median(one[key] for one in turns) for _, turns in points]
            chart.plot(
                places,
                values,
                style,
                marker="o",
                markersize=3,
                color=f"C{number}",
                label=f"{store}, {told}" if store else told,
            )
    chart.set_yscale("log")
    chart.yaxis.set_major_formatter("{x:g}")
    chart.yaxis.set_minor_formatter(NullFormatter())
    chart.set_ylim(bottom=1)
    if kind != "backends":
        chart.set_xscale("log")
        chart.xaxis.set_major_formatter("{x:,.0f}")
    else:
        chart.xaxis.set_major_locator(MaxNLocator(integer=True))
    chart.set_xlabel(label, fontsize=9)
    _finish(chart, "us a record", "y")
    figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=3)
    return figure


def _lines(found: Any, kind: str) -> dict[str, list[tuple[int, Sequence[Mapping[str, Any]]]]]:
    lines: dict[str, list[tuple[int, Sequence[Mapping[str, Any]]]]] = {}
    for row, (grows, store, count, _) in found["points"].items():
        if grows == kind and found["rows"][row]:
            line = "" if kind == "backends" else "journal only" if store == "journal" else store
            lines.setdefault(line, []).append((count, found["rows"][row]))
    return lines


def _memory(found: Any) -> Figure | None:
    """What the process occupies along the longest run of each store."""
    lines = _lines(found, "records")
    if not lines:
        return None
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    chart = figure.subplots()
    for store, points in lines.items():
        _, turns = max(points, key=lambda point: point[0])
        chart.plot(*zip(*turns[0]["memory"], strict=True), label=store)
    chart.set_ylim(bottom=0)
    chart.set_xlabel("records logged", fontsize=9)
    chart.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _finish(chart, "resident memory of the program, MiB", "y")
    chart.legend(fontsize=8, frameon=False)
    return figure


DRAWINGS: dict[str, tuple[str, Drawing]] = {
    "calls": ("calls", _calls),
    "loops": ("loops", _loops),
    "stalls": ("loops", _stalls),
    "start": ("start", _start),
    "training": ("training", _training),
    "records": ("scale", lambda found: _cost(found, "records", "records in the run")),
    "memory": ("scale", _memory),
    "tags": ("scale", lambda found: _cost(found, "tags", "distinct tags, 100,000 records")),
    "writers": ("scale", lambda found: _cost(found, "writers", "SummaryWriters, 100,000 records, events=False")),
    "backends": (
        "scale",
        lambda found: _cost(
            found, "backends", "backends of one run (csv, + clearml, + aim, + mlflow, + wandb), 20,000 records"
        ),
    ),
    "vendors": ("vendors", _vendors),
}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3])) if len(sys.argv) == 3 else main(FIGURES, PICTURES)
