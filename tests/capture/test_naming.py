"""Names are a pure function of (root, log dir, tag), and no two series ever share one."""

import os
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracelet.capture.naming import SPLITS, escaped_name, metric_name, namespace, root_of, tensorboardx_tag, unused
from tracelet.capture.series import SeriesNames, canonical
from tracelet.runs.folders import safe_filename

PART = st.sampled_from(["a", "b", "runs", "val", "..x", "ünï", "a b", "a_b", "~2", "m"])
PATH = st.lists(PART, max_size=4).map(lambda parts: "/" + "/".join(parts))
TAG = st.one_of(
    st.lists(st.sampled_from(["a", "b", "val", "loss", ".", "..", "", "~2", "m"]), min_size=1, max_size=4).map(
        "/".join
    ),
    st.text(max_size=8),
)
SERIES = st.lists(st.tuples(PATH, TAG), min_size=1, max_size=12, unique=True)


def series_names(root=None):
    return SeriesNames(root, lambda key, value: None)


@pytest.mark.parametrize(
    ("root", "log_dir", "expected"),
    [
        ("/runs/exp", "/runs/exp", "loss"),
        ("/runs/exp", "/runs/exp/val", "val/loss"),
        ("/runs/exp", "/runs/exp/val/deep", "val/deep/loss"),
        ("/runs/exp/train", "/runs/exp/val", "val/loss"),
        ("/runs/a/train", "/runs/b/train", "b/train/loss"),
        ("/runs/exp/train", "/runs/exp", "../loss"),
        ("/runs/exp/train/x", "/runs/exp", "../../loss"),
        ("/runs/exp", "/runs/exponent", "exponent/loss"),
        ("s3://bucket/exp", "s3://bucket/exp/val", "val/loss"),
        ("/runs/exp/", "/runs//exp/val/", "val/loss"),
        ("C:\\runs\\exp", "C:\\runs\\exp\\val", "val/loss"),
        ("memory://", "memory://val", "val/loss"),
    ],
)
def test_the_rule_by_example(root, log_dir, expected):
    """Bare in the root, the path from it below, the path from the common parent beside it, ".." above it."""
    assert expected == metric_name(root, log_dir, "loss")


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("/runs/exp", "/runs/exp"),
        ("/runs/exp/train", "/runs/exp"),
        ("/runs/exp/Validation", "/runs/exp"),
        ("/runs/training_1", "/runs/training_1"),
        ("/runs/test/exp", "/runs/test/exp"),
        ("/train", "/"),
        ("C:\\runs\\exp\\eval", "C:\\runs\\exp"),
        ("C:\\eval", "C:\\"),
        ("s3://bucket/exp/val", "s3://bucket/exp"),
        ("s3://bucket", "s3://bucket"),
        ("memory://val", "memory://"),
    ],
)
def test_the_root_is_the_parent_of_a_part_of_the_job(first, expected):
    """A directory named for a part of the job is a prefix, whichever writer is the first."""
    assert expected == root_of(first)


@given(st.permutations(["train", "val", "Test", "eval"]), st.integers(1, 4))
def test_parts_of_a_job_have_the_same_names_in_any_order(parts, count):
    """Also if some of them are never created."""
    book = series_names()
    assert [f"{part}/loss" for part in parts[:count]] == [book[f"/runs/exp/{part}"]["loss"] for part in parts[:count]]


@pytest.mark.parametrize(
    ("directory", "tag", "expected"),
    [
        ("/exp/hparams", "hparam/acc", "hparam/acc"),
        ("/exp/val/hparams", "hparam/acc", "val/hparam/acc"),
        ("/exp/hparams", "acc", "hparams/acc"),
        ("/exp/hparams-2", "hparam/acc", "hparams-2/hparam/acc"),
        ("/exp/best", "hparam/acc", "best/hparam/acc"),
    ],
)
def test_the_metrics_of_add_hparams_say_so_once(directory, tag, expected):
    """Many programs write `hparam/` before them already."""
    assert expected == metric_name("/exp", directory, tag)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("/runs/exp", "loss"),
        ("/runs/exp/val", "val/loss"),
        ("/runs/expert", "loss"),  # beside it: as the default folders of two starts are
        ("/runs/Nov22_host", "loss"),
    ],
)
def test_a_run_that_goes_on_finds_its_names_again(first, expected):
    """The earlier root stays the root for a first writer in it or below it; one elsewhere begins anew."""
    names = SeriesNames(None, lambda key, value: None, earlier="/runs/exp")
    assert expected == names[first]["loss"]


@given(PATH, PATH, PATH)
def test_the_prefix_does_not_depend_on_where_the_tree_lies(parent, root, log_dir):
    """Moving the whole tree changes no name: a machine's own paths are not in them."""
    assert namespace(root, log_dir) == namespace(parent + root, parent + log_dir)


@given(PATH)
def test_one_writer_alone_has_bare_tags(path):
    """Whatever its directory is called, also the default one with date and host; but for a part of a job."""
    name = os.path.basename(path)
    assert "loss" == metric_name(path, path, "loss")
    assert (f"{name}/loss" if name in SPLITS else "loss") == series_names()[path]["loss"]


@given(PATH, SERIES)
@example("/a", [("/a", "val/loss"), ("/a/val", "loss"), ("/a", "val//loss")])
@example("/a/x", [("/a", "loss"), ("/a/x", "../loss"), ("/a/x", "..//loss")])
def test_two_series_never_share_a_name(root, series):
    """However tags and directories are spelled; and a series keeps the name it got."""
    book = series_names(root)
    names = [book[path][tag] for path, tag in series]
    assert len(series) == len(set(names))
    assert names == [book[path][tag] for path, tag in reversed(series)][::-1]


@given(PATH, SERIES, st.randoms())
def test_the_order_of_first_use_does_not_matter_without_a_collision(root, series, random):
    """For a given root, names are those of the pure function, whichever series came first."""
    expected = {(path, tag): metric_name(root, path, tag) for path, tag in series}
    if len(set(expected.values())) < len(expected):
        return
    shuffled = list(series)
    random.shuffle(shuffled)
    book = series_names(root)
    assert expected == {(path, tag): book[path][tag] for path, tag in shuffled}


@given(PATH, SERIES)
def test_a_collision_is_told_apart_by_the_fixed_rule(root, series):
    """The series that comes second to a name is spelled with its directory and tag apart."""
    book = series_names(root)
    for path, tag in series:
        name = book[path][tag]
        allowed = (metric_name(root, path, tag), escaped_name(root, path, tag))
        assert name in allowed or name.startswith(allowed[1] + "~")


@given(st.lists(st.tuples(PATH, st.sampled_from(["m", "m/k", "a", "a/b"]), st.sampled_from(["k", "b/c", "c", "b"]))))
def test_members_of_add_scalars_have_names_of_their_own(members):
    """`main/sub` of two calls never meet each other, nor a tag that is spelled so; asked again, they are the same."""
    book = series_names("/a")
    tags = {(path, f"{main}/{key}"): book[path][f"{main}/{key}"] for path, main, key in members}
    names = {one: book[one[0]].member(*one[1:]) for one in members}
    assert len(names) + len(tags) == len({*names.values(), *tags.values()})
    assert names == {one: book[one[0]].member(*one[1:]) for one in members}


def test_a_name_is_kept_where_every_spelling_was_taken():
    """A third spelling is found once and stays."""
    book = series_names("/a")
    assert ["m/k", ".//m//k"] == [book["/a"][tag] for tag in ("m/k", ".//m//k")]
    assert [".//m//k~2"] * 3 == [book["/a"].member("m", "k") for _ in range(3)]
    assert ["val/x", "val//x"] == [book["/a"][tag] for tag in ("val/x", "val//x")]
    assert ["val//x~2"] * 2 == [book["/a/val"]["x"] for _ in range(2)]


def test_the_programs_own_metrics_are_in_the_roots_namespace():
    """`exp.log_metric("loss")` and the root writer's "loss" are one series; another's name is not taken."""
    book = series_names("/a")
    assert ("loss", "loss") == (book.explicit("loss"), book["/a"]["loss"])
    assert ("val/x", ".//val/x") == (book["/a/val"]["x"], book.explicit("val/x"))
    assert ".//val/x" == book["/a"]["val/x"]


# Directories as programs spell them.


def test_every_spelling_of_a_directory_is_the_same(tmp_path, monkeypatch):
    """Relative, absolute, with a slash at the end, through a link, as a Path: one directory, one series."""
    (tmp_path / "exp" / "val").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "exp")
    monkeypatch.chdir(tmp_path)
    spellings = ["exp/val", f"{tmp_path}/exp/val", "exp/val/", "./exp//val", "link/val", "exp/x/../val"]
    for root in ["exp", f"{tmp_path}/exp/", "link", tmp_path / "exp"]:
        book = series_names(root)
        assert {"val/loss"} == {book[path]["loss"] for path in spellings}
        assert "val/loss" == book[tmp_path / "exp" / "val"]["loss"]


def test_a_directory_of_the_cloud_is_taken_as_it_is():
    book = series_names("s3://bucket/exp/")
    assert ["loss", "val/loss", "other/loss"] == [
        book[path]["loss"] for path in ("s3://bucket/exp", "s3://bucket/exp/val/", "s3://bucket/other")
    ]


@pytest.mark.parametrize("url", ["memory://", "s3://bucket/exp", "gs://bucket//exp"])
def test_a_url_keeps_both_slashes(url):
    """One at its end is not part of it."""
    assert [url, url] == [canonical(url), canonical(f"{url}/" if url[-1] != "/" else url)]


def test_a_relative_directory_is_resolved_for_each_new_writer(tmp_path, monkeypatch):
    """A program that changes its directory makes two writers in "logs": they are not one."""
    book = series_names(tmp_path)
    names = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        names.append(book["logs"]["loss"])
    assert ["one/logs/loss", "two/logs/loss"] == names


def test_the_first_directory_is_the_root_and_is_told(tmp_path):
    """Without `root_logdir` the first writer gives the root, once."""
    told = []
    book = SeriesNames(None, lambda key, value: told.append(value))
    assert ["loss", "b/loss"] == [book[str(tmp_path / path)]["loss"] for path in ("a", "b")]
    assert [str(tmp_path / "a")] == told


RACE = """
import sys, threading
from tracelet.capture.series import SeriesNames
sys.setswitchinterval(1e-6)
for turn in range(300):
    told, names, barrier = [], [], threading.Barrier(4)
    book = SeriesNames(None, lambda key, value: told.append(value))
    def work(number):
        barrier.wait()
        names.extend(book[f"/runs/{number}"][tag] for tag in ("a", "b"))
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    [one.start() for one in threads]
    [one.join() for one in threads]
    assert len(told) == 1, told
    assert len(set(names)) == 8, names
"""


def test_threads_that_meet_at_the_first_writer():
    """One of them gives the root to all, and names stay distinct."""
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, timeout=60)
    assert (0, "") == (done.returncode, done.stderr)


# What names become elsewhere.


@given(TAG)
def test_the_tag_of_tensorboardx_is_the_librarys(tag):
    """Our copy of its rule is its rule."""
    from tensorboardX.summary import _clean_tag

    assert _clean_tag(tag) == tensorboardx_tag(tag)


@given(st.text(max_size=300))
@example("con")
@example("COM1.txt")
@example(".")
@example("a ")
@example("\ud800")
def test_a_file_name_is_one_everywhere(name):
    """No separator, no device, no dot or space at its end, not empty, not too long."""
    safe = safe_filename(name)
    assert safe
    assert safe == safe.strip(" ")
    assert not safe.endswith(".")
    assert not set('/\\:*?"<>|\0\n') & set(safe)
    assert len(safe) <= 109
    assert os.path.basename(safe) == safe
    assert safe.partition(".")[0].lower() not in ("con", "prn", "aux", "nul", "com1", "lpt1")


@given(st.lists(st.one_of(st.text(max_size=5), st.sampled_from(["A", "a", "a/b", "a_b", "", "_"])), unique=True))
def test_distinct_names_are_distinct_files(names):
    """Also where the file system does not see the case."""
    assert len(names) == len({safe_filename(name).lower() for name in names})


def test_an_unused_name_is_numbered():
    assert ["a", "a~2", "a~3"] == [unused("a", taken) for taken in (set(), {"a"}, {"a", "a~2"})]
