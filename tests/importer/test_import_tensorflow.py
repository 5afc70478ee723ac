"""Files of TensorFlow 1 and 2: each value is imported as the kind that TensorBoard shows."""

import math

import numpy as np
import pytest
from event_files import BEGUN, event, imported, records, write
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorflow_files import mesh_part, other, strings, summary, tensor

from tracelet.importer import import_run
from tracelet.records import Audio, Graph, Histogram, Image, Mesh, PRCurve, RawSummary, Scalar, Text, Video, kind
from tracelet.testing.samples import png, wav

CURVE = np.arange(18.0).reshape(6, 3)
BUCKETS = np.array([[-1.0, 0.0, 2.0], [0.0, 0.5, 3.0]])
VERTICES, FACES, COLORS = 1, 2, 3
TRIANGLE = np.array([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]], "f4")
PARTS = {VERTICES: TRIANGLE, FACES: np.array([[[0, 1, 2]]], "i4"), COLORS: np.full((1, 3, 3), 9, "u1")}


def values(number, *, first):
    """One value of four kinds, with metadata if it is the first of its tag."""
    plugin = (lambda name: name) if first else (lambda name: "")
    return (
        tensor("acc", np.float32(number), plugin("scalars")),
        strings("note", f"text {number}", plugin("text")),
        tensor("curve", CURVE + number, plugin("pr_curves")),
        tensor("weights", BUCKETS * (number + 1), plugin("histograms")),
    )


@pytest.mark.parametrize(
    "later", ["in the same file", "in a later file", "at a later import", "at a later import of gzip"]
)
def test_later_values_are_of_the_kind_of_the_first(tmp_path, later):
    """TensorFlow 1 writes the metadata of a tag once."""
    first, second = summary(0, *values(0, first=True)), summary(1, *values(1, first=False))
    source, base = tmp_path / "exp", tmp_path / "runs"
    path = write(source, first + (second if later == "in the same file" else b""))
    if later.startswith("at a later import"):
        import_run(source, base=base)
        path.write_bytes(first + second)
    elif later == "in a later file":
        write(source, second, begun=BEGUN + 1)
    found = imported(source, base)

    assert [Scalar, Text, PRCurve, Histogram] * 2 == [type(one) for one in found]
    assert [0.0, 1.0] == [one.value for one in found if isinstance(one, Scalar)]
    assert ["text 0", "text 1"] == [one.text for one in found if isinstance(one, Text)]
    assert [tuple(CURVE[0]), tuple(CURVE[0] + 1)] == [one.true_positives for one in found if isinstance(one, PRCurve)]


def test_the_metadata_of_a_folder_is_its_own(tmp_path):
    """A value of another folder with the same tag is not what its name says there."""
    write(tmp_path / "exp" / "train", summary(0, strings("x", "words", "text")))
    write(tmp_path / "exp" / "val", summary(1, strings("x", "words")), begun=BEGUN + 1)
    text, raw = imported(tmp_path / "exp", tmp_path / "runs")
    assert (Text, RawSummary, "") == (type(text), type(raw), raw.plugin)


@pytest.mark.parametrize("packed", [True, False])
def test_a_bfloat16_scalar_is_its_number(tmp_path, packed):
    """As bytes or as numbers; numpy has no bfloat16."""
    value = tensor("loss", np.float32(0), "scalars")
    value.tensor.dtype = 14
    value.tensor.ClearField("float_val")
    bits = int(np.float32(-1.5).view("<u4") >> 16)
    if packed:
        value.tensor.tensor_content = bits.to_bytes(2, "little")
    else:
        value.tensor.half_val.append(bits)
    write(tmp_path / "exp", summary(0, value))
    assert [-1.5] == [record.value for record in imported(tmp_path / "exp", tmp_path / "runs")]


def test_a_later_value_may_have_other_metadata(tmp_path):
    """Its own counts, for it and those behind it."""
    write(
        tmp_path / "exp",
        summary(0, tensor("x", np.float32(1), "scalars")),
        summary(1, strings("x", "words", "text")),
        summary(2, strings("x", "more")),
    )
    assert ["scalar", "text", "text"] == [kind(one) for one in imported(tmp_path / "exp", tmp_path / "runs")]


@pytest.mark.parametrize(
    ("array", "text"),
    [
        ([["name", "score"], ["anna", "one"]], "| name | score |\n| --- | --- |\n| anna | one |"),
        ([["a|b", "c\nd"]], "| a\\|b | c<br>d |\n| --- | --- |"),
        ([[["a", "b"]], [["c", "d"]]], "| a | b |\n| --- | --- |\n| c | d |"),
        (["a", "b"], "a\nb"),
        ("a", "a"),
    ],
    ids=["two rows", "marks", "three dimensions", "a list", "a text"],
)
def test_a_text_keeps_its_rows_and_columns(tmp_path, array, text):
    """As a Markdown table, since a text is Markdown."""
    write(tmp_path / "exp", summary(0, strings("t", array, "text")))
    assert [text] == [one.text for one in imported(tmp_path / "exp", tmp_path / "runs")]


def test_images_are_images(tmp_path):
    """All of a call, with their exact bytes; a GIF is a video."""
    one, two = png((1, 2, 3)), png((4, 5, 6))
    write(
        tmp_path / "exp",
        summary(0, strings("i", [b"4", b"5", one, two], "images")),
        summary(1, strings("v", [b"x", b"5", b"GIF89a..."], "images")),
    )
    first, second, video = imported(tmp_path / "exp", tmp_path / "runs")
    assert [(Image, "i", "png", 4, 5)] * 2 == [(type(x), x.tag, x.format, x.width, x.height) for x in (first, second)]
    assert [len(one), len(two)] == [first.data.size, second.data.size]
    assert first.data.digest != second.data.digest
    assert (Video, "gif", 0) == (type(video), video.format, video.width)


def test_a_histogram_keeps_its_buckets(tmp_path):
    """Sums are not in the file, and are not invented."""
    write(
        tmp_path / "exp",
        summary(0, tensor("h", BUCKETS, "histograms")),
        summary(1, tensor("h", np.zeros((0, 3)), "histograms")),
    )
    full, empty = imported(tmp_path / "exp", tmp_path / "runs")
    assert ((0.0, 0.5), (2.0, 3.0)) == (full.limits, full.counts)
    assert (-1.0, 0.5, 5.0) == (full.minimum, full.maximum, full.count)
    assert math.isnan(full.total)
    assert math.isnan(full.sum_squares)
    assert ((), (), 0.0) == (empty.limits, empty.counts, empty.count)


def test_audio_keeps_its_bytes_and_rate(tmp_path):
    """One record per clip. A label has no place in it, so the whole summary is kept instead."""
    labelled = strings("a", [[wav(), b"label"]], "audio")
    write(tmp_path / "exp", summary(0, strings("a", [[wav(), b""], [wav(16_000), b""]], "audio"), labelled))
    one, two, raw = imported(tmp_path / "exp", tmp_path / "runs")
    assert [(Audio, "wav", 8000.0), (Audio, "wav", 16_000.0)] == [
        (type(x), x.format, x.sample_rate) for x in (one, two)
    ]
    assert (RawSummary, labelled.ByteSize()) == (type(raw), raw.data.size)


def test_graphs_are_graphs(tmp_path):
    """Of a FileWriter, of a MetaGraphDef, of `trace_export`; a Keras model is its JSON."""
    meta = MetaGraphDef()
    meta.graph_def.node.add(name="node")
    write(
        tmp_path / "exp",
        other(graph_def=b"graph"),
        other(meta_graph_def=meta.SerializeToString()),
        summary(3, strings("trace", b"run metadata", "graph_run_metadata_graph")),
        summary(4, strings("keras", b'{"layers": []}', "graph_keras_model")),
    )
    *graphs, keras = imported(tmp_path / "exp", tmp_path / "runs")
    assert [("graph", [5]), ("meta_graph", [8]), ("trace", [0, 12])] == [
        (one.tag, [part.size for part in one.parts]) for one in graphs if isinstance(one, Graph)
    ]
    assert ("keras", '{"layers": []}') == (keras.tag, keras.text)


# TensorFlow 2 writes an event for each part of a mesh.


def parts(step, *kinds, name="m"):
    return [summary(step, mesh_part(name, number, PARTS[number], kinds)) for number in kinds]


@pytest.mark.parametrize("kinds", [(VERTICES,), (VERTICES, FACES), (VERTICES, FACES, COLORS)])
def test_the_parts_of_a_mesh_are_one_record(tmp_path, kinds):
    """The same as of an event with all of them, at each step, and for each of two meshes."""
    together = [summary(step, *(mesh_part("m", number, PARTS[number], kinds) for number in kinds)) for step in (1, 2)]
    write(tmp_path / "one", *together, event(9))
    write(tmp_path / "apart", *parts(1, *kinds), *parts(2, *kinds), *parts(3, *kinds, name="other"), event(9))
    expected, found = (imported(tmp_path / name, tmp_path / "runs") for name in ("one", "apart"))
    assert expected[:2] == found[:2]
    assert [("m", 1), ("m", 2), ("other", 3), ("loss", 9)] == [(one.tag, one.step) for one in found]
    assert all(isinstance(one, Mesh) for one in found[:3])


def test_a_mesh_that_is_still_written_is_read_once_it_is_whole(tmp_path):
    """Its missing part is reported, and nothing is imported twice."""
    vertices, faces = parts(1, VERTICES, FACES)
    path = write(tmp_path / "exp", event(0), vertices, faces[:20])
    first = import_run(tmp_path / "exp", base=tmp_path / "runs")
    assert ([Scalar], 2) == ([type(one) for one in records(first.folder)], len(first.damage))
    assert "a part of a mesh is missing" in first.damage[1]
    path.write_bytes(event(0) + vertices + faces + event(2))
    again = import_run(tmp_path / "exp", base=tmp_path / "runs")
    assert () == again.damage
    assert [Scalar, Mesh, Scalar] == [type(one) for one in records(again.folder)]


def test_faces_without_vertices_are_kept_and_named(tmp_path):
    """The event of the vertices was damaged."""
    write(tmp_path / "exp", *parts(1, VERTICES, FACES)[1:], event(2))
    done = import_run(tmp_path / "exp", base=tmp_path / "runs")
    raw, scalar = records(done.folder)
    assert (RawSummary, "mesh", Scalar) == (type(raw), raw.plugin, type(scalar))
    assert ["the mesh has no vertices" in text for text in done.damage] == [True]
