"""tracelet show"""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from matplotlib.figure import Figure

import tracelet
from tracelet.backends.base import Written
from tracelet.errors import RecordRejected
from tracelet.records import Scalar
from tracelet.runs import charts, plot, report
from tracelet.testing import MemoryBackend


def line_of(text: str, word: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.split() and line.split()[0] == word]
    return line.split()


class Fussy(MemoryBackend):
    """A backend that refuses one name."""

    name = "fussy"

    def write(self, batch):
        for place, record in enumerate(batch):
            if isinstance(record, Scalar) and record.tag == "bad":
                return Written(place, RecordRejected("the name is taken"))
            self.records.append(record)
        return None


def test_facts_and_parameters(call, finished_run, tmp_path):
    """What the run was given, flat."""
    with tracelet.start_logging("first", "digits", dir=tmp_path, tags=["a", "b"], notes="a note", group="g") as run:
        run.log_params({"model": {"layers": [64, 10], "dropout": 0.1}})
        run.log_params({"model.dropout": 0.2})

    text = call("show", run.run_id).stdout

    assert f"Run {run.run_id} finished" == text.splitlines()[0].rstrip()
    for word, expected in {
        "name": "first",
        "project": "digits",
        "group": "g",
        "tags": "a, b",
        "notes": "a note",
    }.items():
        assert expected == " ".join(line_of(text, word)[1:])
    assert ["model.dropout", "0.2"] == line_of(text, "model.dropout")
    assert "[64, 10]" == " ".join(line_of(text, "model.layers")[1:])


def test_final_figures_tags_and_alerts(call, tmp_path):
    """What the program said of the run as a whole: tags of its beginning and later ones, figures, the last alerts."""
    with tracelet.start_logging(dir=tmp_path, tags=["a"]) as run:
        run.summary.update({"best": {"acc": 0.75}})
        run.add_tags("b", "a")
        run.alert("it diverges", "loss is 9", "warning")

    text = call("show", run.run_id).stdout

    assert "tags a, b" == " ".join(line_of(text, "tags"))
    assert ["best.acc", "0.75"] == line_of(text, "best.acc")
    assert "it diverges: loss is 9" in " ".join(line_of(text, "warning"))


def test_a_curve_is_one_row(call, finished_run):
    """Points, first, last, min, max, and the curve itself."""
    run = finished_run({"loss": [3.0, 1.0, 0.5, 2.0], "val/loss": [1.0]})

    text = call("show", run.run_id).stdout

    assert ["loss", "4", "3", "2", "0.5", "3", "█▂▁▅"] == line_of(text, "loss")
    assert ["val/loss", "1", "1", "1", "1", "1", "▄"] == line_of(text, "val/loss")


def test_the_machines_curves_come_last(call, finished_run, tmp_path):
    """In a table of their own: a short run has more of them than of its own. JSON has all of them as they came."""
    run = finished_run({"system/cpu": [1.0], "loss": [3.0, 1.0]})

    text = call("show", run.run_id).stdout
    assert text.index("scalar ") < text.index("loss ") < text.index("system metrics ") < text.index("system/cpu ")
    assert ["system/cpu", "loss"] == list(json.loads(call("show", run.run_id, "--json").stdout)["scalars"])


def test_where_to_look_at_a_run_is_told(call, finished_run):
    """Below what the backend has of it; in one line, so that it can be opened, and without a password."""

    class Paged(MemoryBackend):
        name = "paged"
        url = "https://user:secret@example.org/" + "long/" * 30 + "run"

    run = finished_run({"loss": [1.0]}, backend=Paged())
    lines = [line.strip() for line in call("show", run.run_id, width=60).stdout.splitlines()]

    assert "https://example.org/" + "long/" * 30 + "run" == lines[lines.index("paged    1 delivered") + 1]


def test_a_run_is_found_by_its_name(call, finished_run):
    """By an id first, then by a name, each also after a project; if several have it, they are listed."""
    finished_run({"loss": [1.0]}, name="w16", project="sweep", run_id="one")
    finished_run({"loss": [1.0]}, name="w8", project="sweep", run_id="two")
    finished_run({"loss": [1.0]}, name="one", run_id="three")
    for name, run_id in (
        ("w16", "one"),
        ("sweep/w8", "two"),
        ("one", "one"),
        ("thr", "three"),
        ("sweep/tw", "two"),
        ("sweep/latest", "two"),
    ):
        assert f"Run {run_id} " in call("show", name).stdout

    finished_run({"loss": [1.0]}, name="w16", run_id="four")
    several = call("show", "w16")
    assert (1, True) == (
        several.exit_code,
        "'w16' matches 2 runs: default/four (w16), sweep/one (w16)." in several.stderr,
    )


def test_the_latest_run_is_the_one_that_was_started_last(call, finished_run, tmp_path):
    """Whatever its id; a run of that id comes first, and an unreadable run does not matter."""
    assert 1 == call("show", "latest").exit_code
    finished_run({"loss": [1.0]}, run_id="z")
    finished_run({"loss": [1.0]}, run_id="a")
    (tmp_path / "default" / "broken").mkdir()
    (tmp_path / "default" / "broken" / "journal.db").write_bytes(b"no database" * 100)
    assert "Run a " in call("show", "latest").stdout

    finished_run({"loss": [1.0]}, run_id="latest")
    finished_run({"loss": [1.0]}, run_id="b")
    assert "Run latest " in call("show", "latest").stdout


def test_bytes_have_a_unit(call, finished_run):
    """Those of system metrics; a program's own series stay numbers."""
    points = [2.0**20, 1536.0, 3 * 2.0**30]
    run = finished_run({"system/disk_bytes": points, "sent_bytes": points, "system/disk_percent": [5.0, math.nan]})

    text = call("show", run.run_id).stdout

    values = ["1.0", "MiB", "3.0", "GiB", "1.5", "KiB", "3.0", "GiB"]
    assert ["system/disk_bytes", "3", *values] == line_of(text, "system/disk_bytes")[:10]
    assert "1.049e+06" == line_of(text, "sent_bytes")[2]
    compared = call("compare", run.run_id, finished_run({"system/disk_bytes": points}).run_id).stdout
    assert "3.0 GiB (1.5 KiB to 3.0 GiB)" in compared


def test_nan_is_counted_and_seen(call, finished_run):
    """NaN and the infinities are neither hidden nor allowed to hide the rest."""
    run = finished_run({"loss": [1.0, math.nan, 0.5, math.inf, -math.inf]})

    text = call("show", run.run_id).stdout

    assert ["loss", "5", "(1", "NaN)", "1", "-inf", "-inf", "inf", "█×▁↑↓"] == line_of(text, "loss")


def test_other_kinds_and_artifacts(call, tmp_path):
    """Every other kind is counted; an artifact has its size and how often it was logged."""
    with tracelet.start_logging(dir=tmp_path) as run:
        for step in range(3):
            run.log_histogram("weights", [1.0, 2.0], step)
        run.log_text("note", "text")
        run.log_artifact(b"x" * 2048, "models/net.bin")
        run.log_artifact(b"y" * 1024, "models/net.bin")

    text = call("show", run.run_id).stdout

    assert ["histogram", "weights", "3"] == line_of(text, "histogram")
    assert ["text", "note", "1"] == line_of(text, "text")
    assert ["models/net.bin", "1", "1.0", "KiB", "2"] == line_of(text, "models/net.bin")


def test_refused_records_have_their_reason(call, finished_run):
    """What a backend refused is told once for each reason, with the first record."""
    run = finished_run({"bad": [1.0, 2.0], "good": [1.0]}, backend=Fussy())

    text = call("show", run.run_id).stdout

    assert "fussy    1 delivered, 2 rejected" in text
    assert "fussy rejected 2: the name is taken (first: scalar 'bad')" in text


def test_the_advice_delivers_what_waits(call, finished_run, tmp_path):
    """The line that show prints is a line that works."""
    run = finished_run({"loss": [0.5, 0.25]}, mode="offline")
    (advice,) = [line.strip() for line in call("show", run.run_id).stdout.splitlines() if "tracelet sync" in line]

    shell = f'tracelet() {{ "{sys.executable}" -m tracelet "$@"; }}\n{advice}'
    subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, timeout=60, check=True)

    assert "2 delivered" == " ".join(line_of(call("show", run.run_id).stdout, "csv")[1:3])


@pytest.mark.parametrize("width", [40, 89])
def test_a_narrow_terminal_loses_nothing(call, finished_run, width):
    """Where there is no room for the table, each curve has lines of its own, and none is too wide."""
    run = finished_run({"a/rather/long/name/of/a/metric": [3.0, 1.0, 0.5, 2.0]})

    text = call("show", run.run_id, width=width).stdout

    assert width >= max(len(line) for line in text.splitlines())
    assert "█▂▁▅" in text
    assert "points 4, first 3, last 2, min 0.5" in text


@pytest.mark.parametrize("project", ["digits", "My proj/x"])
@pytest.mark.parametrize("spelling", ["id", "beginning", "project/id", "path"])
def test_a_run_answers_to(call, finished_run, spelling, project):
    """Its id, the beginning of it, project/id and its folder, also where the project's folder has another name."""
    run = finished_run({"loss": [0.5]}, project=project)
    run_id = run.run_id
    names = {"id": run_id, "beginning": run_id[:-3], "project/id": f"{project}/{run_id}", "path": run.folder}

    assert call("show", names[spelling]).stdout.startswith(f"Run {run_id}")


def test_the_folder_that_one_is_in(call, finished_run, monkeypatch):
    run = finished_run({"loss": [0.5]})
    monkeypatch.chdir(run.folder)

    assert (run.run_id, str(run.folder)) == tuple(
        json.loads(call("show", ".", "--json").stdout)[key] for key in ("run_id", "folder")
    )
    (synced,) = json.loads(call("sync", ".", "--json").stdout)["runs"]
    assert (run.run_id, str(run.folder)) == (synced["run_id"], synced["folder"])


@pytest.mark.parametrize("run", ["nobody", "digits/nobody", "", "x" * 300])
def test_an_unknown_run_is_one_line(call, finished_run, run):
    """Also an empty word, with which every id begins."""
    finished_run({"loss": [0.5]}, project="digits")
    result = call("show", run)

    assert (1, "", 1) == (result.exit_code, result.stdout, result.stderr.count("\n"))
    assert result.stderr.startswith(f"tracelet: no run {run!r}" if run else "tracelet: the run name is empty")
    assert 1 == result.stderr.count("\n")


def test_an_ambiguous_beginning_names_the_runs(call, finished_run):
    for run_id in ("run-a", "run-b"):
        finished_run({}, run_id=run_id)

    assert "default/run-a, default/run-b" in call("show", "run-").stderr


def test_a_broken_journal_is_one_line(call, tmp_path):
    broken = tmp_path / "default" / "broken"
    broken.mkdir(parents=True)
    (broken / "journal.db").write_bytes(b"not a database" * 100)

    result = call("show", "broken")

    assert 1 == result.exit_code
    assert 1 == result.stderr.count("\n")


def test_a_live_run_can_be_looked_at(call, tmp_path):
    """What the journal has so far, while the program goes on."""
    with tracelet.start_logging(dir=tmp_path, backend="csv") as run:
        run.log_metric("loss", 0.5, 0)
        assert run.flush()
        text = call("show", run.run_id).stdout

    assert f"Run {run.run_id} running" == text.splitlines()[0].rstrip()
    assert "loss" == line_of(text, "loss")[0]
    assert "python -c" not in text


def test_names_are_text(call, tmp_path):
    """Tags and values with markup, escape codes and line ends are shown, not obeyed."""
    with tracelet.start_logging(dir=tmp_path) as run:
        run.log_metric("[bold]x[/bold]\x1b]0;title\x07", 1.0)
        run.log_params({"[/]": "[red]\n:smile:"})

    result = call("show", run.run_id)

    assert 0 == result.exit_code
    assert r"[bold]x[/bold]\x1b]0;title\x07" in result.stdout
    assert ["[/]", r"[red]\n:smile:"] == line_of(result.stdout, "[/]")


def test_a_plot_is_a_png(call, finished_run, tmp_path):
    """Whatever stands in the names and values, there is a picture."""
    points = {"loss": [1.0, 0.5, math.nan, math.inf, 1e308, -1e308], "$\\broken{": [1.0], "_hidden/loss": [2.0, 1.0]}
    run = finished_run(points | {"日本": [1.0] * 600}, exp_name="$a_{")

    result = call("show", run.run_id, "--plot", tmp_path / "curves.png")

    assert 0 == result.exit_code
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert f"Plot: {tmp_path / 'curves.png'}\n" == result.stdout


@pytest.mark.parametrize("name", ["curves.jpg", "no/such/folder/curves.png"])
def test_a_plot_that_cannot_be_is_one_line(call, finished_run, tmp_path, name):
    run = finished_run({"loss": [0.5]})

    result = call("show", run.run_id, "--plot", tmp_path / name)

    assert (1, 1) == (result.exit_code, result.stderr.count("\n"))


@pytest.mark.parametrize(
    ("names", "titles"),
    [(["system/cpu", "loss"], ["loss"]), (["system/cpu", "system/ram"], ["system/cpu", "system/ram"])],
)
def test_a_plot_has_the_machines_curves_where_there_are_no_others(monkeypatch, tmp_path, names, titles):
    drawn = []
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *_, **__: drawn.extend(one.get_title() for one in figure.axes)
    )
    series = {name: report.DownsampledSeries(name) for name in names}
    plot.write_png(charts.of_run(series), tmp_path / "curves.png")

    assert titles == drawn


def test_a_chart_of_many_curves_names_the_first(monkeypatch, tmp_path):
    """And says how many there are; no two of the first forty look alike."""
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.extend(figure.axes))
    names = {f"layer{number}": f"layer{number}/norm" for number in range(40)}
    series = {name: report.DownsampledSeries(name, writer=writer) for writer, name in names.items()}
    plot.write_png(charts.of_run(series), tmp_path / "curves.png")
    (axes,) = drawn

    assert "the first 12 of 40 curves" == axes.get_legend().get_title().get_text()
    assert [f"layer{number}/norm" for number in range(12)] == [one.get_text() for one in axes.get_legend().get_texts()]
    assert 40 == len({(line.get_color(), line.get_linestyle()) for line in axes.get_lines()})


def test_without_matplotlib_the_error_says_what_to_install(finished_run, tmp_path):
    """The rest of `show` works without matplotlib; a plot says the pip line."""
    run = finished_run({"loss": [0.5]})
    code = "import sys; sys.modules['matplotlib'] = None; from tracelet.cli import app; app()"
    command = [sys.executable, "-c", code, "show", run.run_id, "--dir", str(tmp_path)]

    plain = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    plot = subprocess.run(
        [*command, "--plot", str(tmp_path / "x.png")], capture_output=True, text=True, timeout=60, check=False
    )

    assert run.run_id in plain.stdout
    assert (1, "tracelet: a plot needs matplotlib. Install it with: pip install 'tracelet[plot]'\n") == (
        plot.returncode,
        plot.stderr,
    )
