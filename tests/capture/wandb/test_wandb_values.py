"""One named wandb value becomes records: `records_of`, with wandb's own media classes."""

import datetime
import enum
import io
import json
import wave

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import pytest

import tracelet
from tracelet.capture.wandb.values import NotCarried, records_of
from tracelet.records import Artifact, Audio, Histogram, Image, Mesh, Scalar, Table, Text, Video

PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def of(value, name="key"):
    return list(records_of(name, value, 3, 5.0))


def one(value):
    (record,) = of(value)
    assert ("key", 3, 5.0) == (record.tag, record.step, record.wall_time)
    return record


def pixels(record):
    return np.asarray(PIL.Image.open(io.BytesIO(record.data)))


def table(record):
    found = json.loads(record.data)
    return found["columns"], found["rows"]


def test_an_image_with_its_caption(wandb, tmp_path):
    record = one(wandb.Image(PICTURE, caption="a picture"))
    assert ("png", 4, 4, "a picture") == (record.format, record.width, record.height, record.caption)
    assert PICTURE.tolist() == pixels(record).tolist()
    PIL.Image.fromarray(PICTURE).save(tmp_path / "photo.JPG")
    record = one(wandb.Image(str(tmp_path / "photo.JPG")))
    assert ("jpeg", 4, "") == (record.format, record.width, record.caption)
    assert (tmp_path / "photo.JPG").read_bytes() == record.data


def test_masks_boxes_and_classes_of_an_image(wandb):
    """Masks are images of their class ids, with the names of the classes; boxes are JSON."""
    mask = np.array([[0, 1], [2, 2]], np.uint8)
    box = {"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": 1, "scores": {"p": 0.5}}
    image = wandb.Image(
        PICTURE,
        masks={"truth": {"mask_data": mask, "class_labels": {0: "sky", 1: "sea"}}},
        boxes={"guess": {"box_data": [box], "class_labels": {1: "sea"}}},
    )
    _, found_mask, found_boxes = of(image)
    assert ("key/masks/truth", '{"0": "sky", "1": "sea"}') == (found_mask.tag, found_mask.caption)
    assert mask.tolist() == pixels(found_mask).tolist()
    assert "key/boxes/guess" == found_boxes.tag
    assert {"class_labels": {"1": "sea"}, "box_data": [box]} == json.loads(found_boxes.text)
    _, classes = of(wandb.Image(PICTURE, classes=[{"id": 1, "name": "sea"}]))
    assert ("key/classes", [{"id": 1, "name": "sea"}]) == (classes.tag, json.loads(classes.text))


def test_lists_of_media(wandb):
    """Each has the number of its place behind the name; a list of anything else is JSON."""
    found = of([wandb.Image(PICTURE, caption=str(number)) for number in range(3)])
    assert [("key/0", "0"), ("key/1", "1"), ("key/2", "2")] == [(record.tag, record.caption) for record in found]
    assert [Image, Histogram] == [type(record) for record in of((wandb.Image(PICTURE), wandb.Histogram([1])))]
    assert "[]" == one([]).text


def test_a_histogram_keeps_its_edges(wandb):
    record = one(wandb.Histogram(np_histogram=([1, 0, 5], [0.0, 0.1, 0.2, 9.0])))
    assert ((0.0, 0.1, 0.2, 9.0), (0.0, 1.0, 0.0, 5.0)) == (record.limits, record.counts)
    counts, edges = np.histogram([1.0, 2.0, 2.5], bins=4)
    record = one(wandb.Histogram([1.0, 2.0, 2.5], num_bins=4))
    assert (tuple(edges), (0.0, *counts.tolist())) == (record.limits, record.counts)


def test_audio_and_video(wandb, tmp_path):
    """Their files as they are; the sample rate also of a file that wandb did not make."""
    record = one(wandb.Audio(np.sin(np.arange(80) / 5), sample_rate=8000, caption="beep"))
    assert ("wav", 8000.0, "beep") == (record.format, record.sample_rate, record.caption)
    (tmp_path / "own.wav").write_bytes(record.data)
    with wave.open(str(tmp_path / "own.wav")) as file:
        assert 8000 == file.getframerate()
    assert (Audio, 8000.0) == (type(record), one(wandb.Audio(str(tmp_path / "own.wav"))).sample_rate)

    (tmp_path / "film.mp4").write_bytes(b"frames")
    record = one(wandb.Video(str(tmp_path / "film.mp4"), caption="film"))
    assert (Video, "mp4", b"frames", "film") == (type(record), record.format, record.data, record.caption)


def test_tables(wandb):
    """Cells are plain values. A picture in a cell is a record of its own, and the cell has its name."""
    values = wandb.Table(columns=["n", "word", "picture"], data=[[1, "x", wandb.Image(PICTURE)], [2.5, None, None]])
    found, picture = of(values)
    assert (["n", "word", "picture"], [[1, "x", "key/picture/0"], [2.5, None, None]]) == table(found)
    assert ("key/picture/0", PICTURE.tolist()) == (picture.tag, pixels(picture).tolist())
    assert (["a"], [[1], [2]]) == table(one(wandb.Table(dataframe=pd.DataFrame({"a": [1, 2]}))))
    assert (["a"], [[1], [2]]) == table(one(pd.DataFrame({"a": [1, 2]})))

    left, right = wandb.Table(columns=["id"], data=[[1]]), wandb.Table(columns=["id"], data=[[2]])
    found = of(wandb.JoinedTable(left, right, "id"))
    assert ["key/table1", "key/table2", "key/join_key"] == [record.tag for record in found]
    assert ([[1]], [[2]], '"id"') == (table(found[0])[1], table(found[1])[1], found[2].text)


def test_charts_are_their_tables(wandb):
    data = wandb.Table(columns=["x", "y"], data=[[0, 1], [1, 2]])
    assert (["x", "y"], [[0, 1], [1, 2]]) == table(one(wandb.plot.line(data, "x", "y", title="Line")))
    columns, rows = table(one(wandb.plot.confusion_matrix(y_true=[0, 1], preds=[0, 1], class_names=["a", "b"])))
    assert (["Actual", "Predicted", "nPredictions"], 4) == (columns, len(rows))


def test_html_graphs_and_figures(wandb):
    """Text for what is text; a matplotlib figure is a picture, also by its module."""
    assert "<b>bold</b>" == one(wandb.Html("<b>bold</b>", inject=False)).text
    graph = wandb.Graph()
    graph.add_node(wandb.data_types.Node(id="a", name="layer", class_name="Linear"))
    assert "layer" == json.loads(one(graph).text)["nodes"][0]["name"]
    figure, axes = plt.subplots(figsize=(1, 1))
    axes.plot([0, 1])
    expected = one(figure)
    assert Image is type(expected)
    assert pixels(expected).tolist() == pixels(one(plt)).tolist() == pixels(one(axes)).tolist()
    plt.close(figure)


def test_plotly_like_figures():
    """By what they can do: plotly need not be installed."""

    class Figure:
        def to_plotly_json(self):
            return {}

        def to_json(self):
            return '{"data": []}'

    assert '{"data": []}' == one(Figure()).text


def test_points_are_a_mesh(wandb):
    """Points with or without colors; a scene or a model has no form as a record."""
    points = np.array([[0, 0, 0, 255, 0, 0], [1, 1, 1, 0, 255, 0]], float)
    record = one(wandb.Object3D(points))
    assert Mesh is type(record)
    assert record.parts[0].startswith(b"ply\n")
    assert b"property uchar red" in record.parts[0]
    for value in (
        wandb.Object3D({"type": "lidar/beta", "points": points[:, :3], "boxes": np.array([]), "vectors": np.array([])}),
        wandb.Molecule(io.StringIO("ATOM"), file_type="pdb"),
    ):
        with pytest.raises(NotCarried, match="which is a file"):
            of(value)


def test_other_values():
    class Color(enum.Enum):
        RED = 1

    assert "RED" == one(Color.RED).text
    assert "2026-01-02" == one(datetime.date(2026, 1, 2)).text
    assert '["a", "b"]' == one(np.array(["a", "b"])).text
    assert "words" == one(b"words").text
    assert Scalar("key.a.b", 1.0, 3, 5.0) == of({"a": {"b": 1}})[0]
    assert [Text] == [type(record) for record in of(1 + 2j)]


def test_a_class_of_the_programs_own(wandb):
    """A subclass is its base; a class that only has such a name is not."""

    class Photo(wandb.Image):
        pass

    class Image:
        def __str__(self):
            return "not a picture"

    assert ("png", 4) == (one(Photo(PICTURE)).format, one(Photo(PICTURE)).width)
    assert "not a picture" == one(Image()).text


def test_files_are_artifacts(wandb, captured, memory, caplog, tmp_path):
    """A value that is a file arrives as one, under its key, and what has no form at all is said once per type."""
    (tmp_path / "cube.obj").write_text("v 0 0 0")
    with wandb.init() as run:
        for _ in range(2):
            run.log({"shape": wandb.Object3D(str(tmp_path / "cube.obj")), "loss": 1.0})
        run.log({"molecules": [wandb.Molecule(io.StringIO("ATOM"), file_type="pdb")]})
        run.summary["kept"] = wandb.Html("<p>text</p>", inject=False)
        run.summary["gone"] = 1
        del run.summary["gone"]
    captured.stop()

    artifacts = memory.of(Artifact)
    assert ["shape", "shape", "molecules"] == [record.name.split("/")[0] for record in artifacts]
    assert [b"v 0 0 0", b"v 0 0 0", b"ATOM"] == [memory.data(record.files[0]) for record in artifacts]
    assert [("kept", "<p>text</p>", None)] == [(record.tag, record.text, record.step) for record in memory.of(Text)]
    assert 1 == caplog.text.count("the removal of a summary value that was logged to wandb is left out")


def test_left_out_values_are_said_once(wandb, captured, memory, caplog):
    class Strange(wandb.data_types.WBValue):
        _log_type = "strange"

        def to_json(self, run):
            return {"_type": "strange"}

    with wandb.init() as run:
        for value in range(3):
            run.log({"strange": Strange(), "loss": value})
    captured.stop()
    assert [0.0, 1.0, 2.0] == [record.value for record in memory.of(Scalar)]
    assert 1 == caplog.text.count("a value of the type Strange that was logged to wandb is left out")
    assert [] == memory.of(Table)
    assert tracelet.get_active_experiment() is None
