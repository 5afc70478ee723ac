"""The data types of `tracelet.compat.wandb` store the same files as those of the real wandb."""

import datetime
import io
import json
import re
import subprocess
import sys
import wave

import matplotlib.pyplot
import msgspec
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
import wandb
from wandb.sdk.data_types.object_3d import box3d as real_box3d

from tracelet.compat.wandb import data_types as ours
from tracelet.compat.wandb import plot
from tracelet.compat.wandb.base import FileValue
from tracelet.compat.wandb.converting import of_value, read_value
from tracelet.compat.wandb.errors import Error, UnsupportedError
from tracelet.records import Audio, Image, Text, Video

RANDOM = np.random.default_rng(7)
PIXELS = RANDOM.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def stored(real):
    """The bytes that the real wandb stores for a value."""
    with open(real._path, "rb") as file:
        return file.read()


def records(value, name="name", step=3):
    return list(value.records(name, step, 1.5))


def decoded(data):
    image = PIL.Image.open(io.BytesIO(data))
    return image.mode, image.size, image.tobytes()


def a_figure():
    figure = matplotlib.figure.Figure(figsize=(1, 1))
    figure.add_subplot().plot([1, 3, 2])
    return figure


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (PIXELS, {}),
        (PIXELS[:, :, 0], {}),
        (PIXELS[:, :, :1], {}),
        (PIXELS[None], {}),
        (PIXELS.astype(float), {}),
        (PIXELS / 255, {}),
        (PIXELS.astype(np.int64), {"file_type": "bmp"}),
        (PIXELS, {"file_type": "jpg"}),
        (PIXELS, {"mode": "L"}),
        (np.dstack([PIXELS, PIXELS[:, :, :1]]), {}),
        (np.dstack([PIXELS, PIXELS[:, :, :1]]), {"file_type": "jpg", "mode": "RGB"}),
        (PIXELS[:, :, 0] > 100, {}),
        (torch.from_numpy(PIXELS.copy()).permute(2, 0, 1), {}),
        (torch.from_numpy(PIXELS.copy()).permute(2, 0, 1) / 255.0 * 200, {}),
        (torch.rand(1, 4, 6, requires_grad=True), {}),
        (torch.rand(4, 4, 6), {}),
        (PIL.Image.fromarray(PIXELS), {}),
        (PIL.Image.fromarray(PIXELS).convert("P"), {}),
        (PIL.Image.fromarray(PIXELS).convert("1"), {}),
        (a_figure(), {}),
    ],
)
def test_an_image_has_the_pixels_of_wandb(data, options):
    """Arrays, tensors, PIL images and figures in each mode; the file decodes to the same mode, size and pixels."""
    real, image = wandb.Image(data, **options), ours.Image(data, **options)

    assert decoded(stored(real)) == decoded(image._data)
    assert (real.format, real._width, real._height) == (image.format, image._width, image._height)
    assert real.image.tobytes() == image.image.tobytes()


@pytest.mark.parametrize("data", [np.zeros((4, 4, 2)), np.zeros((4, 4, 5)), np.zeros((2, 4, 4, 3))])
def test_an_image_with_other_channels_is_an_error(data):
    for kind in (wandb.Image, ours.Image):
        with pytest.raises((ValueError, TypeError)):
            kind(data)


@pytest.mark.parametrize(
    "data", [PIXELS[:1, :1], PIXELS[None, :1, :1], torch.from_numpy(PIXELS[:1, :1].copy()).permute(2, 0, 1)]
)
def test_an_image_may_have_one_pixel(data):
    """The real wandb makes it gray, with a pixel for each channel."""
    assert [[PIXELS[0, 0].tolist()]] == np.asarray(ours.Image(data).image).tolist()
    assert (1, 1) == ours.Image(PIXELS[:1, :1, :1]).image.size


def test_an_unknown_file_type_is_an_error():
    for kind in (wandb.Image, ours.Image):
        with pytest.raises(ValueError, match="file_type must be one of"):
            kind(PIXELS, file_type="tiff")


def test_normalize_scales_floats():
    """Older versions of wandb scale floats; today's do not, and this is the default."""
    floats = np.array([[0.0, 0.5, 1.0]])

    assert [[0, 127, 255]] == np.asarray(ours.Image(floats, normalize=True).image).tolist()
    assert [[0, 127, 255]] == np.asarray(ours.Image(floats * 2 - 1, normalize=True).image).tolist()
    assert [[0, 0, 1]] == np.asarray(ours.Image(floats).image).tolist()


def test_the_file_of_an_image_is_read_at_once(tmp_path):
    """The program may overwrite or delete it before the record is written."""
    path = tmp_path / "a.jpg"
    PIL.Image.fromarray(PIXELS).save(path)
    before = path.read_bytes()
    image = ours.Image(path, caption="a cat")
    path.unlink()

    assert [Image("name", before, "jpeg", 7, 5, 3, 1.5, caption="a cat")] == records(image)
    assert ("jpg", "a cat") == (image.format, image.caption)
    assert image == ours.Image(image)
    assert image != ours.Image(PIXELS)


def test_the_summary_of_an_image_has_the_fields_of_wandb():
    image = ours.Image(PIXELS, caption="c", grouping=2)

    summary = image.summary()

    assert {"_type": "image-file", "format": "png", "width": 7, "height": 5, "caption": "c", "grouping": 2} == {
        key: value for key, value in summary.items() if key not in ("sha256", "size")
    }


BOX = {"position": {"minX": 0.1, "maxX": 0.2, "minY": 0.3, "maxY": 0.4}, "class_id": 1, "scores": {"p": 0.5}}
CENTERED = {"position": {"middle": torch.tensor([0.5, 0.5]), "width": 0.1, "height": 0.1}, "class_id": 2}


def test_masks_boxes_and_classes_are_records_of_their_own():
    """The mask has the pixels of wandb; the boxes, classes and the grouping are JSON."""
    mask = RANDOM.integers(0, 256, (5, 7))
    options = {"masks": {"truth": {"mask_data": mask, "class_labels": {1: "cat"}}}}

    image = ours.Image(
        PIXELS,
        grouping=4,
        classes=[{"id": 9, "name": "sky"}],
        boxes={"found": {"box_data": [BOX, CENTERED]}},
        **options,
    )
    picture, mask_record, boxes, classes = records(image)

    assert decoded(stored(wandb.Image(PIXELS, **options)._masks["truth"])) == decoded(mask_record.data)
    assert ("name", "name/masks/truth", 7, 5) == (picture.tag, mask_record.tag, mask_record.width, mask_record.height)
    centered = {**CENTERED, "position": {"middle": [0.5, 0.5], "width": 0.1, "height": 0.1}}
    labels = {"1": "class_1", "2": "class_2"}
    assert ("name/boxes", {"found": {"box_data": [BOX, centered], "class_labels": labels}}) == (
        boxes.tag,
        json.loads(boxes.text),
    )
    assert {
        "classes": [{"id": 1, "name": "cat"}, {"id": 2, "name": "class_2"}, {"id": 9, "name": "sky"}],
        "masks": {"truth": {"1": "cat"}},
        "grouping": 4,
    } == json.loads(classes.text)


@pytest.mark.parametrize(
    "box",
    [
        {},
        {"position": {"minX": 1}},
        {**BOX, "scores": [1]},
        {**BOX, "scores": {1: 2}},
        {**BOX, "class_id": "cat"},
        {**BOX, "box_caption": 3},
    ],
)
def test_an_invalid_box_is_an_error(box):
    for module in (wandb.data_types, ours):
        with pytest.raises(TypeError):
            module.BoundingBoxes2D({"box_data": [box], "class_labels": {}}, "key")


@pytest.mark.parametrize("mask", [{}, {"mask_data": np.zeros(3)}, {"mask_data": np.full((2, 2), 300)}])
def test_an_invalid_mask_is_an_error(mask):
    for module in (wandb.data_types, ours):
        with pytest.raises((TypeError, KeyError)):
            module.ImageMask({**mask, "class_labels": {}}, "key")


SINE = np.sin(np.arange(800) / 10) * 1.2


@pytest.mark.parametrize(
    "samples",
    [
        SINE,
        SINE.astype(np.float32),
        np.stack([SINE, -SINE], axis=1),
        (SINE * 20000).astype(np.int16),
        (SINE * 1e9).astype(np.int32),
        SINE.tolist(),
        RANDOM.normal(size=5000),
    ],
)
def test_audio_has_the_samples_of_wandb(samples):
    """As libsndfile: scaled, clipped, cut to 16 bits."""
    audio = ours.Audio(samples, sample_rate=8000, caption="beep")

    with wave.open(wandb.Audio(samples, sample_rate=8000)._path) as real, wave.open(io.BytesIO(audio._data)) as file:
        assert real.getparams() == file.getparams()
        assert real.readframes(9999) == file.readframes(9999)
    assert [Audio("name", audio._data, "wav", 8000.0, 3, 1.5, caption="beep")] == records(audio)


def test_audio_of_a_file_is_stored_as_it_is(tmp_path):
    """The sample rate comes from the file if it is WAV."""
    path = tmp_path / "a.wav"
    path.write_bytes(ours.Audio(SINE, sample_rate=4000)._data)

    (record,) = records(ours.Audio(str(path)))

    assert (path.read_bytes(), "wav", 4000.0) == (record.data, record.format, record.sample_rate)


def test_samples_need_a_rate_and_a_known_type():
    for kind in (wandb.Audio, ours.Audio):
        with pytest.raises(ValueError, match="sample_rate"):
            kind(SINE)
        with pytest.raises(ValueError, match="int64"):
            kind(np.arange(4), sample_rate=8)


def frames_of(data):
    image = PIL.Image.open(io.BytesIO(data))
    frames, times = [], []
    for number in range(image.n_frames):
        image.seek(number)
        frames.append(np.asarray(image.convert("RGB")).tolist())
        times.append(image.info["duration"])
    return frames, times


@pytest.mark.parametrize("shape", [(4, 3, 16, 16), (3, 4, 3, 8, 8)])
@pytest.mark.parametrize("fps", [None, 10])
def test_a_gif_has_the_frames_of_wandb(shape, fps, monkeypatch):
    """The same pixels and times; several videos are tiled."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    video = np.zeros(shape, np.uint8)
    video[...] = np.arange(shape[-1]) * 3
    video[..., 1, :] = 200
    for number in range(4):
        video[..., number, 0, :, :] = number * 50

    real, own = (module.Video(video, fps=fps, format="gif") for module in (wandb, ours))

    assert frames_of(stored(real)) == frames_of(own._data)
    assert (real._width, real._height) == (own._width, own._height)
    assert [Video("name", own._data, "gif", own._width, own._height, 3, 1.5)] == records(own)


def test_a_gif_of_many_colors_is_as_near_as_that_of_wandb(monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    video = RANDOM.integers(0, 256, (3, 3, 20, 20), dtype=np.uint8)

    errors = []
    for module in (wandb, ours):
        value = module.Video(video, format="gif")
        frames, _ = frames_of(value._data if module is ours else stored(value))
        errors.append(np.abs(np.array(frames) - video.transpose(0, 2, 3, 1)).mean())

    assert errors[1] <= errors[0] * 1.01


def test_an_mp4_is_the_file_of_wandb(monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    video = RANDOM.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)

    real, own = (module.Video(video, fps=2, format="mp4") for module in (wandb, ours))

    assert stored(real) == own._data


def test_encoding_an_mp4_names_the_package_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "moviepy.video.io.ImageSequenceClip", None)
    with pytest.raises(Error, match="pip install moviepy"):
        ours.Video(np.zeros((2, 3, 4, 4), np.uint8), format="mp4")


def test_videos_of_files_and_streams_are_stored_as_they_are(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"mp4 data")

    assert [Video("name", b"mp4 data", "mp4", 0, 0, 3, 1.5)] == records(ours.Video(path))
    assert [Video("name", b"ogg data", "ogg", 0, 0, 3, 1.5)] == records(
        ours.Video(io.BytesIO(b"ogg data"), format="ogg")
    )


@pytest.mark.parametrize(
    ("data", "format"), [("a.avi", None), (io.BytesIO(), None), (np.zeros((2, 3, 4, 4), np.uint8), "avi"), ([1], "gif")]
)
def test_an_invalid_video_is_an_error(data, format):
    for module in (wandb, ours):
        with pytest.raises(ValueError):
            module.Video(data, format=format)


@pytest.mark.parametrize("page", ["<h1>x</h1>", "<html><body>x</body></html>", "<html><head><title>t</title></head>x"])
@pytest.mark.parametrize("inject", [True, False])
def test_html_has_the_text_of_wandb(page, inject, tmp_path):
    """As text, as an open file, and as a file."""
    path = tmp_path / "page.html"
    path.write_text(page)

    for source in (page, path, str(path)):
        real, own = wandb.Html(source, inject=inject), ours.Html(source, inject=inject)
        assert real.html == own.html
        assert [Text("name", real.html, 3, 1.5)] == records(own)
    assert ours.Html(page).html == ours.Html(io.StringIO(page)).html
    assert str(path) == ours.Html(str(path), inject=False, data_is_not_path=True).html


POINTS = RANDOM.normal(size=(4, 6))
SCENE = {
    "type": "lidar/beta",
    "points": POINTS[:, :3],
    "boxes": np.array([{"corners": [[0, 0, 0]], "color": [1, 2, 3]}]),
}


@pytest.mark.parametrize("data", [POINTS, POINTS[:, :3], POINTS[:, :4], SCENE])
def test_a_point_cloud_has_the_file_of_wandb(data):
    real, own = wandb.Object3D(data), ours.Object3D(data, caption="cloud")
    file, caption = records(own, "a/../b")

    assert json.loads(stored(real)) == json.loads(file.data)
    assert ("media/object3D/a/_/b_3.pts.json", "cloud") == (file.path, caption.text)


def test_point_clouds_have_other_constructors():
    points, box = [[0, 0, 0]], ours.box3d(center=[0] * 3, size=[1] * 3, orientation=[1, 0, 0, 0], color=[0] * 3)

    real, own = (module.Object3D.from_point_cloud(points, [box]) for module in (wandb, ours))

    assert json.loads(stored(real)) == json.loads(own._data)
    assert ours.Object3D(POINTS) == ours.Object3D.from_numpy(POINTS)
    assert ours.Object3D(io.StringIO("x"), file_type="stl") == ours.Object3D.from_file(io.StringIO("x"), "stl")


@pytest.mark.parametrize("data", [np.zeros((4, 5)), np.zeros(3), {"type": "other"}, [1], "a.txt"])
def test_an_invalid_object_is_an_error(data):
    for module in (wandb, ours):
        with pytest.raises(ValueError):
            module.Object3D(data)


def test_objects_and_molecules_of_files_are_stored_as_they_are(tmp_path):
    path = tmp_path / "a.obj"
    path.write_text("v 1 2 3")

    with path.open() as file:
        objects = [ours.Object3D(path), ours.Object3D(file), ours.Object3D(io.StringIO("v 1 2 3"), file_type="obj")]
    assert [[FileValue("media/object3D/name_3.obj", b"v 1 2 3")]] * 3 == [records(value) for value in objects]
    assert [FileValue("media/molecule/name_0.pdb", b"ATOM")] == records(
        ours.Molecule(io.StringIO("ATOM"), file_type="pdb"), step=None
    )


@pytest.mark.parametrize("kind", ["Object3D", "Molecule"])
@pytest.mark.parametrize("arguments", [{}, {"file_type": "exe"}])
def test_a_stream_needs_a_known_file_type(kind, arguments):
    for module in (wandb, ours):
        with pytest.raises(ValueError):
            getattr(module, kind)(io.StringIO("x"), **arguments)


def test_molecules_of_rdkit_are_not_supported():
    with pytest.raises(UnsupportedError, match="MolToPDBBlock"):
        ours.Molecule.from_smiles("CO")


def test_the_corners_of_a_box_are_those_of_wandb():
    options = {"center": (1, 2, 3), "size": (2, 4, 6), "orientation": (0.5, 0.3, 0.2, 0.7), "color": (1, 0, 0)}
    options |= {"label": "car", "score": 0.5}

    real, own = real_box3d(**options), ours.box3d(**options)

    np.testing.assert_allclose(sorted(real.pop("corners")), sorted(own.pop("corners")))
    assert real == own


class PlotlyFigure:
    """Has the one method of a plotly figure that is used; plotly is not among the test dependencies."""

    def to_plotly_json(self):
        return {"data": [{"y": np.array([1.0, 2.0]), "type": "scatter"}], "layout": {"title": "</script>"}}


PlotlyFigure.__module__ = "plotly.graph_objs._figure"


def test_a_plotly_figure_is_its_json_and_a_page():
    file, page = records(of_value(PlotlyFigure()))

    assert "media/plotly/name_3.plotly.json" == file.path
    figure = {"data": [{"y": [1.0, 2.0], "type": "scatter"}], "layout": {"title": "</script>"}}
    assert figure == json.loads(file.data)
    assert "media/plotly/name_3.html" == page.path
    embedded = re.search(r"const figure = (.*?); Plotly", page.data.decode()).group(1)
    assert figure == json.loads(embedded)


def test_a_value_that_is_no_plot_is_an_error():
    for module in (wandb, ours):
        with pytest.raises(ValueError):
            module.Plotly([1, 2])


def test_plotly_of_matplotlib_names_the_package_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.tools", None)
    with pytest.raises(Error, match="pip install plotly"):
        ours.Plotly(a_figure())
    figure = a_figure()
    figure.axes[0].imshow(PIXELS)
    with pytest.raises(ValueError, match="with images"):
        ours.Plotly(figure)


def test_pyplot_is_its_current_figure():
    matplotlib.pyplot.figure(figsize=(1, 1))
    try:
        figure = matplotlib.pyplot.gcf()
        assert of_value(matplotlib.pyplot) == ours.Image(matplotlib.pyplot) == ours.Image(figure)
    finally:
        matplotlib.pyplot.close()
    with pytest.raises(ValueError, match="must be a figure"):
        ours.Image(matplotlib.lines.Line2D([0], [1]))


def test_a_graph_is_the_json_of_wandb():
    graphs = []
    for module in (wandb.data_types, ours):
        graph = module.Graph()
        first, second = graph.add_node(id=1, name="a", class_name="Linear"), graph.add_node(id=2, name="b")
        graph.add_edge(first, second)
        graphs.append(graph)

    (record,) = records(graphs[1])

    assert graphs[0]._to_graph_json() == json.loads(record.text)
    assert "a" == graphs[1][1].name


def test_the_graph_of_a_torch_module_has_its_parameters():
    graph = ours.Graph.from_torch(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()))

    assert [0, 8, 0] == [node.num_parameters for node in graph.nodes]
    assert [["Sequential", "0"], ["Sequential", "1"]] == [edge.to_json() for edge in graph.edges]


ARRAY = RANDOM.normal(size=100)


@pytest.mark.parametrize(
    "options",
    [
        {"sequence": ARRAY},
        {"sequence": ARRAY.tolist(), "num_bins": 5},
        {"sequence": RANDOM.integers(0, 9, 50)},
        {"sequence": torch.arange(20)},
        {"np_histogram": np.histogram(ARRAY, bins=7)},
        {"np_histogram": ([1, 2], [0.0, 0.5, 1.0])},
    ],
)
def test_a_histogram_has_the_bins_of_wandb(options):
    real, own = wandb.Histogram(**options), ours.Histogram(**options)

    (record,) = records(own)

    assert real.to_json() == own.summary()
    assert (tuple(real.bins), (0.0, *real.histogram)) == (record.limits, record.counts)
    assert ("name", 3, 1.5, sum(real.histogram)) == (record.tag, record.step, record.wall_time, record.count)


def test_a_histogram_has_the_sums_of_its_values():
    (record,) = records(ours.Histogram(ARRAY))

    sums = (record.minimum, record.maximum, record.total, record.sum_squares)
    assert pytest.approx((ARRAY.min(), ARRAY.max(), ARRAY.sum(), (ARRAY**2).sum())) == sums


@pytest.mark.parametrize(
    "options",
    [
        {"np_histogram": ([1], [1])},
        {"np_histogram": ([1], [1], [1])},
        {"np_histogram": ([1] * 513, [1.0] * 514)},
        {"sequence": [1.0], "num_bins": 513},
        {"sequence": [float("nan")]},
    ],
)
def test_an_invalid_histogram_is_an_error(options):
    for module in (wandb, ours):
        with pytest.raises(ValueError):
            module.Histogram(**options)


@pytest.mark.parametrize("value", [1, 1.5, "x", None, True, [1], {"a": 1}, np.float32(1), np.zeros(32), torch.zeros(3)])
def test_plain_values_and_small_arrays_are_not_converted(value):
    assert of_value(value) is None


def test_a_large_array_is_the_histogram_of_wandb():
    """32 bins, for arrays and tensors of more than 32 elements; values that are not finite are left out."""
    history = json.loads(json.dumps(ARRAY, cls=wandb.util.WandBHistoryJSONEncoder))

    assert history == of_value(ARRAY).summary() == of_value(torch.from_numpy(ARRAY)).summary()
    assert history == of_value(np.append(ARRAY, np.nan)).summary()
    assert 100 == sum(of_value(torch.zeros(100, dtype=torch.bfloat16)).histogram)


def test_figures_pil_images_and_frames_are_converted():
    figure = a_figure()

    assert of_value(figure) == of_value(figure.axes[0]) == ours.Image(figure)
    assert of_value(PIL.Image.fromarray(PIXELS)) == ours.Image(PIXELS)
    assert of_value(pd.DataFrame({"a": [1]})) == ours.Table(dataframe=pd.DataFrame({"a": [1]}))


def test_checking_types_imports_no_library():
    """`wandb.log` of plain values costs no import of numpy, PIL or matplotlib; and the real wandb is never imported."""
    code = (
        "import sys; from tracelet.compat.wandb import data_types, converting, plot; "
        "converting.of_value(object()); data_types.Table(['a'], [[1]]).summary(); "
        "print({'numpy', 'PIL', 'pandas', 'matplotlib', 'torch', 'wandb'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "set()" == shown.stdout.strip()


def test_values_have_an_array_form_only_if_they_are_images():
    assert PIXELS.tolist() == ours.Image(PIXELS).to_data_array()
    with pytest.raises(UnsupportedError, match="Html has no array form"):
        ours.Html("x").to_data_array()


def test_a_reference_belongs_in_an_artifact():
    image = ours.Image("s3://bucket/a.png")

    assert ({"path": "s3://bucket/a.png", "format": "png"}, {}) == (
        {key: image.described()[0][key] for key in ("path", "format")},
        image.described()[1],
    )
    with pytest.raises(ValueError, match="Add it to an Artifact"):
        records(image)


def test_every_record_can_be_stored():
    """Records have plain Python values alone, so that the journal can encode them."""
    values = [
        ours.Image(PIXELS, boxes={"b": {"box_data": [{**BOX, "class_id": 1}]}}),
        ours.Audio(SINE, sample_rate=np.int64(8000)),
        ours.Video(np.zeros((2, 3, 4, 4), np.uint8), format="gif"),
        ours.Histogram(torch.arange(5)),
        ours.Table(["a"], [[np.float32(1)]]),
        ours.Html("x"),
        ours.Graph.from_torch(torch.nn.Linear(1, 1)),
        plot.line_series([1, 2], [[1, 2]]),
    ]

    for value in values:
        for record in records(value):
            assert record == msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=type(record))


def test_values_are_read_back_from_their_files():
    """An artifact stores each value as files, and returns an equal value."""
    image = ours.Image(
        PIXELS, caption="c", classes=[{"id": 1, "name": "x"}], masks={"m": {"mask_data": np.ones((5, 7), int)}}
    )
    when = datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc)
    values = [
        image,
        ours.Image(
            PIXELS, classes=[{"id": 1, "name": "x"}], boxes={"b": {"box_data": [BOX], "class_labels": {1: "x"}}}
        ),
        ours.Audio(SINE, sample_rate=8000),
        ours.Video(np.zeros((2, 3, 4, 4), np.uint8), format="gif"),
        ours.Html("<p>x"),
        ours.Object3D(POINTS),
        ours.Classes([{"id": 1, "name": "x"}]),
        ours.PartitionedTable("parts"),
        ours.Table(["a", "image", "when"], [[1, image, when], [None, image, when]]),
    ]

    for value in values:
        files = value.files("stem")
        described = json.loads(next(data for path, data in files.items() if path.startswith("stem.")))
        assert value == read_value(described, files.__getitem__)
    assert read_value({"_type": "future"}, {}.__getitem__) is None
