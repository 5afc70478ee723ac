"""What is chosen of a run's pictures, histograms, texts and tables."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tracelet
from tracelet.records import File, Histogram, Image
from tracelet.runs import report
from tracelet.runs.media import Downsample, Gallery, Limits, MediaFrame


def png(size=4, shade=0):
    from PIL import Image as Pillow

    out = io.BytesIO()
    Pillow.new("L", (size, size), shade).save(out, "PNG")
    return out.getvalue()


def seen(run, **limits):
    gallery = Gallery(Limits(**limits))
    report.read(run.folder, see=gallery.add)
    return gallery


@given(st.integers(0, 300), st.integers(2, 20))
def test_thinning_keeps_both_ends_and_an_even_spread(number, most):
    """Never more than asked for; the first and the last; no gap more than twice another but for the last."""
    made = []
    thinned = Downsample(most, lambda one: made.append(one) or one)
    for one in range(number):
        thinned.add(one)
    kept = thinned.samples()

    assert number == thinned.count
    assert len(kept) <= most
    assert sorted(set(kept)) == kept
    assert number == 0 or (0, number - 1) == (kept[0], kept[-1])
    assert len(set(np.diff(kept[:-1]).tolist())) <= 1
    assert number <= most - 1 or len(kept) >= most / 2
    assert len(made) <= 1 + most * (1 + math.log2(max(number, 1)))


def test_pictures_are_thinned_and_the_last_of_each_comes_first(tmp_path):
    """Where there is not room for all, every name has its last picture before any has an earlier one."""
    with tracelet.start_logging(dir=tmp_path) as run:
        for step in range(20):
            for tag in ("a", "b", "c"):
                run.log_image(tag, np.full((1, 8, 8), step * 10, np.uint8), step)
    size = len(png())
    roomy, narrow = seen(run, images=5), seen(run, images=5, all_image_bytes=4 * size + 20)

    for pictures in roomy.selected_images().values():
        steps = [one.step for one in pictures]
        assert (0, 19) == (steps[0], steps[-1])
        assert len(steps) <= 5
    assert [19, 19, 19] == [pictures[-1].step for pictures in narrow.selected_images().values()]
    assert sum(map(len, narrow.selected_images().values())) < sum(map(len, roomy.selected_images().values()))
    assert 20 == narrow.images["a"].count


def test_names_beyond_the_limit_are_counted(tmp_path):
    with tracelet.start_logging(dir=tmp_path) as run:
        for number in range(5):
            run.log_text(f"text {number}", "x", 0)
            run.log_histogram(f"h {number}", [1.0], 0)
    gallery = seen(run, tags=2)

    assert (["text 0", "text 1"], {"text": 3, "histogram": 3}) == (list(gallery.texts), dict(gallery.omitted))


@pytest.mark.parametrize("name", ["../../../../etc/passwd", "/etc/passwd", "a" * 64 + "/../x", "", "..", "A" * 64])
def test_a_journal_cannot_name_files_outside_of_its_run(tmp_path, name):
    """A run folder may come from anywhere: only names that the spool itself gives are opened."""
    file = File(name=name, digest="0" * 64, size=10)

    assert None is MediaFrame(0, 1, 1, "image/png", file).data(tmp_path, 1 << 20)


def test_a_picture_that_lies_about_its_size_is_left_out(tmp_path):
    """What counts is what is read."""
    name = "0" * 64 + ".png"
    (tmp_path / "files" / "00").mkdir(parents=True)
    (tmp_path / "files" / "00" / name).write_bytes(b"x" * 1000)
    picture = MediaFrame(0, 1, 1, "image/png", File(name=name, digest="0" * 64, size=1))

    assert (None, 1000) == (picture.data(tmp_path, 999), len(picture.data(tmp_path, 1000) or b""))


@pytest.mark.parametrize("form", ["svg", "html", "mp4", ""])
def test_only_formats_that_cannot_hold_a_program(form):
    gallery = Gallery()
    file = File(name="0" * 64 + ".png", digest="0" * 64, size=10)
    gallery.add(Image("a", file, form, 1, 1, 0, 0.0))

    assert [None] == [one.media_type for one in gallery.images["a"].samples()]


def test_narrow_buckets_are_joined_and_none_is_lost(tmp_path):
    """TensorBoard's fine buckets around zero become few bars; the wide ones, and the number of values, stay."""
    from torch.utils.tensorboard import SummaryWriter

    with tracelet.start_logging(dir=tmp_path) as run, SummaryWriter(str(tmp_path / "logs")) as writer:
        writer.add_histogram("weights", np.random.default_rng(0).normal(0, 0.1, 10_000), 0)
    (bars,) = seen(run).histograms["weights"].samples()

    assert len(bars.counts) <= 200
    assert len(bars.edges) == len(bars.counts) + 1
    assert 10_000 == sum(bars.counts) == bars.number
    assert max(np.diff(bars.edges)) < 0.1


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(NUMBERS, max_size=20), st.lists(NUMBERS, max_size=20), NUMBERS, NUMBERS)
@example([1.0, 2.0, 3.0], [4.0, 5.0], 1.0, 3.0)
@example([1.0], [4.0, 5.0], 1.0, 3.0)
@example([1.0, 2.0], [], 1.0, 2.0)
def test_any_histogram_has_bars(limits, counts, minimum, maximum):
    """A journal holds whatever a program said, also fewer counts than limits: something is drawn, and no error raised.

    tensorboardX's add_histogram_raw writes lists of different lengths.
    """
    gallery = Gallery()
    gallery.add(Histogram("h", tuple(limits), tuple(counts), minimum, maximum, 1.0, 1.0, 1.0, 0, 0.0))
    (bars,) = gallery.histograms["h"].samples()

    assert len(bars.edges) == len(bars.counts) + 1


def test_the_beginning_of_a_table(tmp_path):
    rows = [[number, "x" * number, math.nan] for number in range(9)]
    with tracelet.start_logging(dir=tmp_path) as run:
        run.log_table("t", rows, 3, columns=["a", "b", "c"])
    gallery = seen(run, rows=4, columns=2)
    sheet = gallery.preview(gallery.tables["t"], run.folder)

    assert sheet is not None
    assert (3, ["a", "b"], 9, 3) == (sheet.step, sheet.columns, sheet.height, sheet.width)
    assert [row[:2] for row in rows[:4]] == sheet.rows


def test_long_cells_are_cut(tmp_path):
    """Also names of columns, and values that are no text; what is short is as it was."""
    with tracelet.start_logging(dir=tmp_path) as run:
        run.log_table("t", [["x" * 900, [1] * 900, 7]], columns=["a", "b" * 900, "c"])
    gallery = seen(run, cell=5)
    sheet = gallery.preview(gallery.tables["t"], run.folder)

    assert sheet is not None
    assert (["a", "bbbbb…", "c"], [["xxxxx…", "[1, 1…", 7]], 3) == (sheet.columns, sheet.rows, sheet.cut)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b'{"columns": 1, "rows": []}', b"[" * 100_000, b"\xff"])
def test_a_file_that_is_no_table_is_none(tmp_path, content):
    with tracelet.start_logging(dir=tmp_path) as run:
        run.log_table("t", [[1]], columns=["a"])
    gallery = seen(run)
    table = gallery.tables["t"]
    (run.folder / "files" / table.data.name[:2] / table.data.name).write_bytes(content)

    assert None is gallery.preview(table, run.folder)
    assert json.loads(json.dumps(gallery.omitted)) == {}
