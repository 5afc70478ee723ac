"""tracelet show --html, and --json"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import sqlite3
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracelet
from tracelet.backends.base import Written
from tracelet.errors import RecordRejected
from tracelet.records import Scalar
from tracelet.runs import page
from tracelet.runs.charts import Chart, Curve
from tracelet.runs.media import Gallery
from tracelet.runs.page import curves, drawings
from tracelet.runs.report import DownsampledSeries
from tracelet.testing import MemoryBackend

VOID = {"meta", "link", "img", "input", "br"}


class Tree(HTMLParser):
    """What an HTML parser finds: every element is closed where it should be; the text by section."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.section, self.text = [], [], "", {}
        self.code = []
        self.feed(text)
        self.close()
        assert [] == self.open

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        assert len(told) == len(attributes)
        self.elements.append((tag, told))
        if tag == "section":
            self.section = told["id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag == self.open.pop()
        if tag == "section":
            self.section = ""

    def handle_data(self, data):
        if self.open[-1:] in (["script"], ["style"]):
            self.code.append((self.open[-1], data))
        self.text[self.section] = self.text.get(self.section, "") + f" {data}"

    def words(self, section):
        return " ".join(self.text.get(section, "").split())


@pytest.fixture
def shown(call, tmp_path):
    """`shown(run)`: the page that `tracelet show --html` writes, parsed."""

    def show(run):
        path = tmp_path / "page.html"
        result = call("show", run.run_id, "--html", path)
        assert (0, "") == (result.exit_code, result.stderr)
        assert "".join(f"Page: {path}".split()) == "".join(result.stdout.split())
        return Tree(path.read_text(encoding="utf-8"))

    return show


class Fussy(MemoryBackend):
    """A backend that has a page, and refuses one name."""

    name = "fussy"
    url = "https://user:secret@example.org/run"

    def write(self, batch):
        for place, record in enumerate(batch):
            if isinstance(record, Scalar) and record.tag == "bad":
                return Written(place, RecordRejected("the <name> is taken"))
            self.records.append(record)
        return None


def test_everything_that_can_be_looked_at_is_there(shown, tmp_path):
    """Each kind has its section."""
    with tracelet.start_logging("first", "digits", dir=tmp_path, tags=["a", "b"], notes="a note", backend="csv") as run:
        run.log_params({"lr": 0.1, "model": {"layers": [64, 10]}, "home": "https://example.org/x"})
        for step in range(3):
            run.log_metric("loss", 1 / (step + 1), step)
            run.log_image("sample", np.full((3, 8, 8), 40 * step, np.uint8), step)
            run.log_histogram("weights", np.linspace(-1, 2, 50), step)
        run.log_text("note", "first line\nsecond <line>")
        run.log_table("scores", [["x", 0.5]], columns=["who", "how"])
        run.log_artifact(b"x" * 2048, "models/net.bin")
        run.log_audio("sound", np.zeros(100), sample_rate=8000)
    found = shown(run)

    headings = [told.get("id") for tag, told in found.elements if tag == "section"]
    expected = [
        "curves",
        "pictures",
        "histograms",
        "tables",
        "texts",
        "parameters",
        "artifacts",
        "backends",
        "not-shown",
    ]
    assert expected == [one for one in headings if one in expected]
    assert (
        "Statistics of 1 curve scalar points first last lowest highest curve loss 3 1 0.3333 0.3333 1"
        in found.words("curves")
    )
    assert [f"sample, step {step}" for step in range(3)] == [t["alt"] for tag, t in found.elements if tag == "img"]
    assert "weights 2 1 0 step -1 0.5 2 values 50" in found.words("histograms")
    assert "second <line>" in found.words("texts")
    assert "who how x 0.5" in found.words("tables")
    assert "lr 0.1 model.layers [64, 10]" in found.words("parameters")
    assert "https://example.org/x" in [told["href"] for tag, told in found.elements if tag == "a"]
    digest = hashlib.sha256(b"x" * 2048).hexdigest()
    assert f"models/net.bin file 1 2.0 KiB 1 {digest} Download" in found.words("artifacts")
    assert ["data:audio/wav"] == [t["src"].partition(";")[0] for tag, t in found.elements if tag == "audio"]
    assert all(word in found.words("") for word in ("first finished", "digits", "a note", "csv: "))


def test_nothing_comes_from_elsewhere_and_nothing_goes_there(shown, finished_run):
    """No address but that of data and places in the page; the policy admits the page's own style and script alone."""
    found = shown(finished_run({"loss": [1.0]}))
    addresses = [told[key] for _, told in found.elements for key in ("src", "href", "action", "srcset") if key in told]
    assert [] == [one for one in addresses if not one.startswith(("data:", "#"))]
    (policy,) = (told["content"] for _, told in found.elements if told.get("http-equiv") == "Content-Security-Policy")
    rules = dict(one.strip().split(" ", 1) for one in policy.split(";"))
    assert ("'none'", "data:", "data:", "'none'", "'none'") == tuple(
        rules[key] for key in ("default-src", "img-src", "media-src", "base-uri", "form-action")
    )
    assert not any("unsafe" in rule or "http" in rule or "*" in rule for rule in rules.values())
    for tag, key in (("style", "style-src"), ("script", "script-src")):
        (own,) = (text for name, text in found.code if name == tag and not text.startswith("["))
        assert f"'sha256-{base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()}'" == rules[key]
        assert "uplot" in own
    assert "The MIT License (MIT)\n\nCopyright (c) 2022 Leon Sorokin" in own
    assert [] == [told for _, told in found.elements if "style" in told or any(key.startswith("on") for key in told)]


def test_a_backends_standing_is_told(shown, tmp_path):
    """What it has, what it refused and why, and where its page is, without the password in the address."""
    with tracelet.start_logging(dir=tmp_path, backend=[Fussy()]) as run:
        run.log_metric("bad", 1.0)
        run.log_metric("good", 1.0)
    found = shown(run)

    assert "fussy 1 0 1 0 https://example.org/run" in found.words("backends")
    assert "the <name> is taken 1 scalar 'bad'" in found.words("backends")
    assert "secret" not in " ".join(found.text.values())
    assert "https://example.org/run" in [told["href"] for tag, told in found.elements if tag == "a"]


def test_what_waits_is_told_with_what_delivers_it(shown, finished_run):
    found = shown(finished_run({"loss": [1.0, 2.0]}, mode="offline"))

    assert "csv 0 2 0 0" in found.words("backends")
    assert "tracelet sync" in found.words("backends")


def test_what_is_said_of_the_run_as_a_whole(shown, tmp_path):
    """Alerts and final figures come before the curves, tags into the head."""
    with tracelet.start_logging(dir=tmp_path, tags=["a"]) as run:
        run.log_metric("loss", 1.0)
        run.summary["best"] = {"acc": 0.75}
        run.add_tags("b")
        run.alert("it <diverges>", "loss is 9", "warning")
    found = shown(run)
    sections = [told["id"] for tag, told in found.elements if tag == "section"]

    assert ["alerts", "final", "curves"] == sections[:3]
    assert "it <diverges> warning" in found.words("alerts")
    assert "metric value best.acc 0.75" in found.words("final")
    assert "a b" in found.words("")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("finished", 0, "status finished, 20"),
        ("failed", 3, "status failed with exit code 3, 20"),
        ("killed", 143, "status killed with exit code 143, 20"),
    ],
)
def test_how_a_run_ended(shown, tmp_path, status, code, words):
    run = tracelet.start_logging(dir=tmp_path)
    run.stop(status=status, exit_code=code)

    assert words in shown(run).words("")


def test_a_run_whose_process_was_killed(shown, tmp_path):
    program = "import os, tracelet\nrun = tracelet.start_logging(run_id='r1')\nrun.log_metric('loss', 1)\n"
    program += "print(run.flush())\nos._exit(3)"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, timeout=60, check=False)

    class Run:
        run_id = "r1"

    assert "crashed; last seen at" in shown(Run).words("")


def test_a_live_run_is_shown_as_far_as_it_is(shown, tmp_path):
    """While the program goes on; nothing of the run's folder is changed by it."""
    with tracelet.start_logging(dir=tmp_path, backend="csv") as run:
        run.log_metric("loss", 0.5, 0)
        assert run.flush()
        found = shown(run)
        run.log_metric("loss", 0.25, 1)

    assert "running; state at" in found.words("")
    assert 2 == shown(run).text["curves"].count("loss")


def test_the_run_is_only_read(shown, finished_run):
    """Showing writes nothing into the run's folder, and the journal needs no right to be written."""
    run = finished_run({"loss": [1.0]})

    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.folder.rglob("*")}

    before = state()
    shown(run)
    assert before == state()


def test_what_is_left_out_is_said(shown, tmp_path):
    """Steps that were thinned out, names beyond the limit, long texts, large pictures: counted, each by name."""
    with tracelet.start_logging(dir=tmp_path) as run:
        for step in range(40):
            run.log_image("many", np.full((1, 4, 4), step, np.uint8), step)
            run.log_histogram("weights", [float(step)], step)
        run.log_text("long", "x" * 30_000)
        run.log_image("large", np.random.default_rng(0).integers(0, 255, (3, 1500, 1500), dtype=np.uint8))
        for number in range(70):
            run.log_text(f"text {number}", "x")
        run.log_table("wide", [[1] * 40] * 90, columns=[str(at) for at in range(40)])
    told = shown(run).words("not-shown")

    for words in (
        "images of 'many'",
        "histograms of 'weights'",
        "20000 of 30000 characters of the text 'long', step 0",
        "1 of 1 images of 'large'",
        "11 records of kind text with other tags",
        "50 of 90 rows and 30 of 40 columns",
    ):
        assert words in told


def test_a_large_run_makes_a_page_of_bounded_size(shown, tmp_path):
    """Whatever a run has, its page stays one that a browser opens and a mail takes."""
    with tracelet.start_logging(dir=tmp_path) as run:
        for number in range(300):
            for step in range(40):
                run.log_metric(f"group {number}/value {number}", step * number, step)
        noise = np.random.default_rng(0)
        for step in range(30):
            run.log_image("noise", noise.integers(0, 255, (3, 600, 600), dtype=np.uint8), step)
    found = shown(run)

    assert (tmp_path / "page.html").stat().st_size < 25 << 20
    assert 200 == sum(told.get("class") == "chart" for _, told in found.elements)
    assert "100 of 300 charts; their statistics are in the table" in found.words("not-shown")
    assert "group 299/value 299" in found.words("curves")


def test_a_picture_that_is_gone_leaves_the_rest(shown, tmp_path):
    with tracelet.start_logging(dir=tmp_path) as run:
        for step in range(2):
            run.log_image("sample", np.full((1, 4, 4), step, np.uint8), step)
    first = next((run.folder / "files").rglob("*.png"))
    first.unlink()
    found = shown(run)

    assert 1 == sum(tag == "img" for tag, _ in found.elements)
    assert "1 of 2 images of 'sample'" in found.words("not-shown")


def test_damage_is_told(shown, tmp_path):
    with tracelet.start_logging(dir=tmp_path) as run:
        for step in range(3):
            run.log_metric("loss", float(step), step)
            run.flush()
    with sqlite3.connect(run.folder / "journal.db") as database:
        database.execute("UPDATE batches SET data = x'00' WHERE first = 2")
    database.close()

    assert "records 2 to 2 are damaged (checksum)" in shown(run).words("not-shown")


def test_a_run_without_anything_has_a_page(shown, tmp_path):
    with tracelet.start_logging(dir=tmp_path) as run:
        pass
    found = shown(run)

    assert "No backend. All records are stored in the journal." in found.words("backends")
    assert "This page is complete." in found.words("not-shown")


@pytest.mark.parametrize("name", ["page.txt", "no/such/folder/page.html"])
def test_a_page_that_cannot_be_is_one_line(call, finished_run, tmp_path, name):
    run = finished_run({"loss": [0.5]})
    result = call("show", run.run_id, "--html", tmp_path / name)

    assert (1, "", 1) == (result.exit_code, result.stdout, result.stderr.count("\n"))


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(st.tuples(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=8), NUMBERS), min_size=1, max_size=4))
def test_any_histogram_is_drawn_with_numbers(found):
    """Edges and counts of every sort end up as coordinates inside the drawing."""
    from tracelet.records import Histogram

    gallery = Gallery()
    for step, (buckets, figure) in enumerate(found):
        limits, counts = tuple(one for one, _ in buckets), tuple(one for _, one in buckets)
        gallery.add(Histogram("h", limits, counts, figure, figure, figure, figure, figure, step, 0.0))
    drawn = "".join(drawings.histograms(gallery.histograms, []))

    Tree(drawn)
    for points in re.findall(r' points="([^"]*)"', drawn):
        for place in points.split():
            across, up = map(float, place.split(","))
            assert 0 <= across <= 320
            assert 0 <= up <= 168


def test_a_tensorboard_curve_of_precision_is_drawn(shown, tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with tracelet.start_logging(dir=tmp_path) as run, SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_pr_curve("pr", np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.8, 0.3]), 5)
    found = shown(run)

    assert "recall precision step 5" in found.words("pr-curves")
    (line,) = (told["points"] for tag, told in found.elements if tag == "polyline")
    assert 127 == len(line.split())


def contrast(one, other):
    """WCAG 2's contrast of two colours."""

    def light(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((light(one), light(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_from_their_ground(scheme):
    """Text has a contrast of at least 4.5, lines of 3, in both schemes."""
    with open(os.path.join(os.path.dirname(page.__file__), "style.css"), encoding="utf-8") as file:
        light, _, dark = file.read().partition("@media (prefers-color-scheme: dark)")
    told = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light if scheme == "light" else dark))
    texts = [(ink, paper) for ink in ("ink", "soft", "accent", "warn") for paper in ("paper", "card")]
    texts += [(word, f"{word}-paper") for word in ("good", "bad", "warn", "calm")]
    texts += [("ink", f"{word}-paper") for word in ("bad", "warn", "calm")] + [("soft", "faint")]

    assert [] == [pair for pair in texts if contrast(told[pair[0]], told[pair[1]]) < 4.5]
    assert [] == [name for name in (f"c{at}" for at in range(8)) if contrast(told[name], told["card"]) < 3]


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_strict_and_whole(call, tmp_path):
    """NaN and the infinities are strings that `float` reads; nothing else is printed, also beside a page and a plot."""
    with tracelet.start_logging("first", "digits", dir=tmp_path, backend="csv", tags=["a"]) as run:
        for step, value in enumerate([1.0, math.nan, math.inf, -math.inf]):
            run.log_metric("loss", value, step)
        run.log_params({"lr": 0.1, "bad": math.nan, "list": [1, math.inf], "text": "é\ud83d\ude00"})
        run.log_artifact(b"abc", "a.bin")
    result = call(
        "show", run.run_id, "--json", "--html", tmp_path / "page.html", "--plot", tmp_path / "curves.png", width=40
    )
    told = strict(result.stdout)

    assert (run.run_id, "first", "digits", "finished", 0) == tuple(
        told[key] for key in ("run_id", "name", "project", "status", "exit_code")
    )
    loss = told["scalars"]["loss"]
    assert (4, 1, 1.0) == (loss["points"], loss["nans"], loss["first"])
    assert (-math.inf, -math.inf, math.inf) == tuple(float(loss[key]) for key in ("last", "min", "max"))
    assert math.isnan(float(told["params"]["bad"]))
    assert [1, "Infinity"] == told["params"]["list"]
    assert told["backends"]["csv"]["delivered"] == told["records"]
    assert hashlib.sha256(b"abc").hexdigest() == told["artifacts"]["a.bin"]["listed"][0]["sha256"]
    assert (tmp_path / "page.html").exists()
    assert (tmp_path / "curves.png").exists()


def test_a_page_that_fails_leaves_the_earlier_one(tmp_path):
    """Whole: the new one is written beside it."""
    path = tmp_path / "page.html"
    path.write_text("earlier")

    def parts():
        yield "<!doctype html>"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        page._write(path, parts())
    assert "earlier" == path.read_text()
    assert ["home", "page.html"] == sorted(one.name for one in tmp_path.iterdir())


def test_a_page_behind_a_link_is_written_where_the_link_leads(call, finished_run, tmp_path):
    (tmp_path / "published").mkdir()
    (tmp_path / "page.html").symlink_to(tmp_path / "published" / "index.html")

    assert 0 == call("show", finished_run({"loss": [0.5]}).run_id, "--html", tmp_path / "page.html").exit_code
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "published" / "index.html").read_text(encoding="utf-8").endswith("</html>\n")


def test_a_planted_link_is_not_written_through(tmp_path):
    """In a folder that others may write, a draft of any name that they can foresee is a new file, not their link."""
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / f".page.html.{os.getpid()}").symlink_to(target)

    page._write(tmp_path / "page.html", ["<!doctype html>"])

    assert ("mine", "<!doctype html>") == (target.read_text(), (tmp_path / "page.html").read_text())
    assert ["home", "page.html", "target"] == sorted(one.name for one in tmp_path.iterdir())


def test_the_smallest_numbers_have_a_page(shown, finished_run):
    assert "d 2 0 4.941e-324" in shown(finished_run({"d": [0.0, 5e-324]})).words("curves")


def test_a_chart_of_too_many_curves_leaves_room_for_the_others(shown, tmp_path):
    """It shows the first hundred, and says so."""
    with tracelet.start_logging(dir=tmp_path) as run:
        for number in range(130):
            run._orchestrator.submit(Scalar(f"layer{number}/norm", 1.0, 0, 0.0, f"layer{number}"))
        run.log_metric("loss", 1.0)
    found = shown(run)

    assert 2 == sum(told.get("class") == "chart" for _, told in found.elements)
    assert 100 == sum(told.get("aria-pressed") == "true" for _, told in found.elements)
    assert "30 of 130 curves of the chart 'norm'; their statistics are in the table" in found.words("not-shown")
    assert "layer129/norm" in found.words("curves")


def test_a_chart_too_large_makes_room_for_the_next():
    """A chart that has no room left does not keep out smaller ones behind it."""

    def chart(name, curves, points):
        one = DownsampledSeries(name)
        for step in range(points):
            one.add(step, float(step % 7))
        return Chart(name, tuple(Curve(f"{name}{at}", one, at) for at in range(curves)))

    left_out = []
    large = [chart(f"large {number}", 100, 511) for number in range(8)]
    shown = curves.limit_charts([*large, chart("small", 1, 5)], left_out)

    assert "small" == shown[-1].title
    assert [f"{9 - len(shown)} of 9 charts; their statistics are in the table"] == left_out
    assert len(shown) < 9


def test_long_texts_do_not_swell_a_page(shown, tmp_path):
    """Cells, names and values are cut, and cells that were are counted."""
    with tracelet.start_logging(dir=tmp_path) as run:
        run.log_table("t", [["z" * 900_000]], columns=["a"])
        run.log_params({"p" * 100_000: "q" * 100_000})
        run.alert("title", "r" * 100_000)
    found = shown(run)

    assert (tmp_path / "page.html").stat().st_size < 1 << 20
    assert "the ends of 1 long cells of the table 't'" in found.words("not-shown")
