"""Each action of the program is carried exactly once, whatever calls whatever."""

import json
import sys
import threading

import numpy as np
import pytest
from calls import CALLS, COLORS, FACES, STEP, VERTICES, WALL_TIME, expected_records, figure, make, public_methods

import tracelet
from tracelet.records import Embedding, Graph, Image, Layout, Mesh, Params, PRCurve, Scalar, Tensor, Text, kind


def kinds_and_tags(records):
    return [(kind(one), getattr(one, "tag", None)) for one in records]


def points(records):
    return [(one.tag, one.value, one.step) for one in records if isinstance(one, Scalar)]


# The public methods.


def test_every_public_method_is_in_the_table(lib):
    """A method that a new release brings is seen here before it is missed by a user."""
    assert set() == set(public_methods(lib)) - set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_each_public_method_is_carried_once(name, lib, writer, tmp_path, records):
    """One call is one record of its kind; add_hparams is its params and a scalar a metric, add_scalars one a series."""
    if name not in public_methods(lib):
        pytest.skip(f"{lib.name} has no {name}")
    make(name, writer, tmp_path)
    assert expected_records(name) == kinds_and_tags(records())


@pytest.mark.parametrize("name", CALLS)
def test_each_public_method_keeps_step_and_time(name, lib, writer, tmp_path, records):
    """Step and wall time are those of the call, where the method takes them."""
    if name not in public_methods(lib):
        pytest.skip(f"{lib.name} has no {name}")
    make(name, writer, tmp_path)
    without_step = {"add_onnx_graph", "add_openvino_graph", "add_graph"} | {n for n in CALLS if "custom" in n}
    found = [one for one in records() if not isinstance(one, Params)]
    assert {None if name in without_step else STEP} == {one.step for one in found}
    if name not in without_step | {"add_embedding", "add_hparams"}:
        assert {WALL_TIME} == {one.wall_time for one in found}


def test_scalars_of_a_dict_are_series_of_their_own(writer, records):
    """add_scalars: float64 of each argument, named main/sub in the writer's own namespace."""
    writer.add_scalars("m/t", {"u/1": 0.1, "v": np.float64(0.2)}, 4)
    assert [("m/t/u/1", 0.1, 4), ("m/t/v", 0.2, 4)] == points(records())
    assert {""} == {one.writer for one in records()}


def test_hparams_are_what_the_program_said(writer, records):
    """add_hparams: ints, bools and None as given, of which the file makes floats; metrics as float64."""
    values = {"lr": 0.1, "layers": 3, "bias": True, "name": "net", "none": None}
    writer.add_hparams(values, {"acc": 0.9})
    params, scalar = records()
    assert Params(values, params.wall_time, "hparams") == params
    assert [type(value) for value in values.values()] == [type(value) for value in params.values.values()]
    assert Scalar("hparams/acc", 0.9, None, scalar.wall_time, "hparams") == scalar


def test_hparams_twice_are_one_series(writer, records):
    """The clock in the name of add_hparams' directory is not in the name of the series."""
    for epoch in range(2):
        writer.add_hparams({"lr": 0.1}, {"acc": 0.5 + epoch}, global_step=epoch)
    assert [("hparams/acc", 0.5, 0), ("hparams/acc", 1.5, 1)] == points(records())


def test_hparams_with_positional_arguments(lib, writer, records):
    """The fourth positional argument is a name in torch and a step in tensorboardX."""
    fourth = "hp" if lib.is_torch else 7
    writer.add_hparams({"lr": 0.1}, {"acc": 0.9}, None, fourth)
    expected = [("hp/acc", 0.9, None)] if lib.is_torch else [("hparams/acc", 0.9, 7)]
    assert expected == points(records())


def test_closing_the_nested_writer_ends_nothing(writer, experiment, records):
    """add_hparams closes the writer it opened; the run goes on."""
    writer.add_hparams({"lr": 0.1}, {})
    writer.add_scalar("loss", 0.5, 1)
    assert experiment is tracelet.get_active_experiment()
    assert ["params", "scalar"] == [kind(one) for one in records()]


def test_text_is_text(writer, records):
    writer.add_text("notes", "a *b*\n«é» \U0001f680", 2, 9.0)
    assert [Text("notes", "a *b*\n«é» \U0001f680", 2, 9.0)] == records()


def test_pr_curve_keeps_its_six_rows(writer, records):
    rows = [(1.0 + row, 2.0, 0.5) for row in range(6)]
    writer.add_pr_curve_raw("pr", *map(np.array, rows), num_thresholds=3, global_step=2, walltime=9.0)
    assert [PRCurve("pr", *rows, 2, 9.0)] == records()


LAYOUTS = {
    "add_custom_scalars_multilinechart": {"title": "t", "multiline": {"tag": ["a", "b", "c"]}},
    "add_custom_scalars_marginchart": {
        "title": "t",
        "margin": {"series": [{"value": "a", "lower": "b", "upper": "c"}]},
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_says_its_charts(name, writer, records):
    getattr(writer, name)(["a", "b", "c"], "k", "t")
    (layout,) = records()
    assert isinstance(layout, Layout)
    assert {"category": [{"title": "k", "chart": [LAYOUTS[name]]}]} == json.loads(layout.layout)


def test_a_layout_of_several_charts(writer, records):
    given = {"k": {"one": ["Multiline", ["a"]], "two": ["Margin", ["a", "b", "c"]]}, "l": {"three": ["Multiline", []]}}
    writer.add_custom_scalars(given)
    (layout,) = records()
    told = {one["title"]: [chart["title"] for chart in one["chart"]] for one in json.loads(layout.layout)["category"]}
    assert {"k": ["one", "two"], "l": ["three"]} == told


def test_a_mesh_is_a_ply_file_for_each_of_the_batch(writer, memory, records):
    """Vertices, colours and faces arrive as given, in one record."""
    import torch

    parts = [torch.tensor([rows, rows]) for rows in (VERTICES, COLORS, FACES)]
    writer.add_mesh("mesh", *parts, config_dict={"camera": {"cls": "PerspectiveCamera"}}, global_step=1)
    (mesh,) = records()
    assert isinstance(mesh, Mesh)
    assert {"camera": {"cls": "PerspectiveCamera"}} == json.loads(mesh.config)
    assert 2 == len(mesh.parts)
    for part in mesh.parts:
        header, _, body = memory.data(part).partition(b"end_header\n")
        assert header.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 3\n")
        rows = np.frombuffer(body, [("xyz", "<f4", 3), ("rgb", "u1", 3)], 3)
        assert (VERTICES, COLORS) == (rows["xyz"].tolist(), rows["rgb"].tolist())
        assert (b"\x03" + np.array(FACES[0], "<i4").tobytes()) == body[rows.nbytes :]


def test_a_point_cloud_is_a_mesh_without_faces(writer, memory, records):
    import torch

    writer.add_mesh("cloud", torch.tensor([VERTICES]))
    (mesh,) = records()
    body = memory.data(mesh.parts[0]).partition(b"end_header\n")[2]
    assert np.array(VERTICES, "<f4").tobytes() == body


def test_an_embedding_is_its_files(writer, tmp_path, memory, records):
    """tensors.tsv, metadata.tsv and sprite.png, byte for byte as the projector gets them."""
    make("add_embedding", writer, tmp_path)
    (embedding,) = records()
    assert isinstance(embedding, Embedding)
    assert ("tensors.tsv", "metadata.tsv", "sprite.png") == embedding.names
    folder = tmp_path / "logs" / "00003" / "points"
    expected = [(folder / name).read_bytes() for name in embedding.names]
    assert expected == [memory.data(part) for part in embedding.parts]


def test_an_embedding_again_has_no_files_of_the_one_before(writer, records):
    """A second call in the same place without labels does not carry the labels of the first."""
    writer.add_embedding(np.eye(3), metadata=["a", "b", "c"])
    writer.add_embedding(np.eye(3))
    assert [("tensors.tsv", "metadata.tsv"), ("tensors.tsv",)] == [one.names for one in records()]


def test_a_step_between_two_is_cut_as_the_library_does(writer, records):
    """What a writer is given is no mistake to us: `log_metric` refuses such a step."""
    writer.add_scalar("loss", 0.5, 1.7)
    writer.add_embedding(np.eye(3), global_step=1.7)
    assert [1, 1] == [one.step for one in records()]


def test_a_refused_embedding_is_not_carried(writer, records):
    with pytest.raises(AssertionError):
        writer.add_embedding(np.eye(3), metadata=["too", "few"])
    assert [] == records()


def test_a_graph_and_its_run_metadata_are_one_record(writer, tmp_path, memory, records, read_events):
    make("add_graph", writer, tmp_path)
    (graph,) = records()
    writer.close()
    events = read_events(tmp_path / "logs")
    expected = [event.graph_def for event in events if event.HasField("graph_def")]
    expected += [event.tagged_run_metadata.run_metadata for event in events if event.HasField("tagged_run_metadata")]
    assert isinstance(graph, Graph)
    assert [part for part in expected if part] == [memory.data(part) for part in graph.parts]


def test_an_onnx_graph_is_its_graph_def(writer, tmp_path, memory, records, read_events):
    make("add_onnx_graph", writer, tmp_path)
    (graph,) = records()
    writer.close()
    expected = [event.graph_def for event in read_events(tmp_path / "logs") if event.HasField("graph_def")]
    assert expected == [memory.data(part) for part in graph.parts]


DTYPES = {
    "float16": "<f2",
    "float32": "<f4",
    "float64": "<f8",
    "int8": "|i1",
    "uint8": "|u1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "bool": "|b1",
    "complex64": "<c8",
    "complex128": "<c16",
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_keeps_type_shape_and_values(dtype, tmp_path, memory, records):
    """add_tensor (torch alone): the exact array, whatever field of the proto TensorBoard puts it into."""
    import torch
    from torch.utils.tensorboard import SummaryWriter

    values = torch.tensor([[0, 1, 2], [3, 4, 100]]).to(getattr(torch, dtype))
    with SummaryWriter(tmp_path / "logs") as writer:
        writer.add_tensor("t", values, 1)
    (record,) = records()
    assert isinstance(record, Tensor)
    assert (DTYPES[dtype], (2, 3)) == (record.dtype, record.shape)
    assert values.tolist() == np.frombuffer(memory.data(record.data), record.dtype).reshape(record.shape).tolist()


def test_a_bfloat16_tensor_keeps_its_bits(tmp_path, memory, records):
    """numpy has no bfloat16: the data are the 16 bits of each."""
    import torch
    from torch.utils.tensorboard import SummaryWriter

    values = torch.tensor([1.0, -2.5, 3e38], dtype=torch.bfloat16)
    with SummaryWriter(tmp_path / "logs") as writer:
        writer.add_tensor("t", values)
    (record,) = records()
    assert ("bfloat16", (3,)) == (record.dtype, record.shape)
    assert values.view(torch.int16).numpy().tobytes() == memory.data(record.data)


def test_a_tensor_without_dimensions(tmp_path, memory, records):
    import torch
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path / "logs") as writer:
        writer.add_tensor("t", torch.tensor(2.5))
    (record,) = records()
    assert ((), 2.5) == (record.shape, np.frombuffer(memory.data(record.data), record.dtype).item())


# Calls inside calls.


def test_a_subclass_that_calls_super_twice(lib, tmp_path, records):
    """Two events are two records, each under its own tag."""

    class Twice(lib.SummaryWriter):
        def add_scalar(self, tag, value, *args, **kwargs):
            super().add_scalar(tag, value, *args, **kwargs)
            super().add_scalar(f"{tag}/double", 2 * value, *args, **kwargs)

    with Twice(str(tmp_path / "logs")) as writer:
        writer.add_scalar("loss", 0.1, 1)
    assert [("loss", 0.1, 1), ("loss/double", 0.2, 1)] == points(records())


def test_a_subclass_whose_image_also_writes_a_scalar(lib, tmp_path, records):
    """An outer call claims only the events that it explains, directly and through the base's add_figure."""

    class Noting(lib.SummaryWriter):
        def add_image(self, tag, *args, **kwargs):
            self.add_scalar(f"{tag}/mean", 0.1)
            super().add_image(tag, *args, **kwargs)

    with Noting(str(tmp_path / "logs")) as writer:
        writer.add_image("direct", np.zeros((3, 4, 4), np.uint8))
        writer.add_figure("drawn", figure())
    expected = [("scalar", "direct/mean"), ("image", "direct"), ("scalar", "drawn/mean"), ("image", "drawn")]
    assert expected == kinds_and_tags(records())
    assert [0.1, 0.1] == [one.value for one in records() if isinstance(one, Scalar)]


def test_a_subclass_whose_image_raises_after_its_scalar(lib, tmp_path, records):
    """What reached the file before the exception is carried; the exception is the program's own."""

    class Failing(lib.SummaryWriter):
        def add_image(self, tag, *args, **kwargs):
            self.add_scalar(f"{tag}/mean", 0.1)
            raise KeyError(tag)

    with Failing(str(tmp_path / "logs")) as writer, pytest.raises(KeyError, match="drawn"):
        writer.add_figure("drawn", figure())
    assert [("drawn/mean", 0.1, None)] == points(records())


def test_a_scalar_inside_a_scalar(lib, tmp_path, records):
    """The inner call's tag and value are its own, and the outer's come back after it."""

    class Counting(lib.SummaryWriter):
        def _get_file_writer(self):
            writer = super()._get_file_writer()
            if getattr(self, "counting", False):
                self.counting = False
                self.add_scalar("calls", 0.2)
            return writer

    with Counting(str(tmp_path / "logs")) as writer:
        writer.counting = True
        writer.add_scalar("loss", 0.1)
    assert [("calls", 0.2, None), ("loss", 0.1, None)] == points(records())


def test_scalars_that_fail_half_way(writer, records):
    """What reached the files before the exception is carried, and nothing of what did not."""
    with pytest.raises((ValueError, TypeError, NotImplementedError)):
        writer.add_scalars("m", {"a": 0.1, "bad": object(), "c": 0.3}, 1)
    writer.add_scalar("after", 0.4, 2)
    assert [("m/a", 0.1, 1), ("after", 0.4, 2)] == points(records())


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("add_scalar", ("t", "no number")),
        ("add_scalar", ("t", None)),
        ("add_scalar", ("t", np.zeros(2))),
        ("add_scalar", ("t", 0.5, 2**64)),
        ("add_histogram", ("t", np.array([]))),
        ("add_image", ("t", np.zeros((2, 2)))),
        ("add_text", ("t", 5)),
        ("add_hparams", ([], {})),
        ("add_pr_curve_raw", ("t", 1, 2, 3)),
        ("add_scalar", ()),
    ],
)
def test_what_the_library_refuses_is_not_carried(method, arguments, lib, tmp_path, memory):
    """Same exception as without tracelet, and no record."""

    def refused(folder):
        with lib.SummaryWriter(str(tmp_path / folder)) as writer, pytest.raises(Exception) as caught:
            getattr(writer, method)(*arguments)
        return type(caught.value), str(caught.value)

    plain = refused("plain")
    tracelet.start_logging(backend=memory)
    assert plain == refused("carried")
    tracelet.stop_logging()
    assert [] == memory.records


# Past the public methods.


def test_what_goes_to_the_file_writer_itself(lib, writer, records):
    """Lightning and others write summaries and events past the public methods; each is carried once."""
    proto = lib.module.Event
    event = proto()
    event.summary.value.add(tag="event", simple_value=0.25)
    writer.file_writer.add_event(event, 2, 9.0)
    told = proto(step=5)
    told.summary.value.add(tag="step inside", simple_value=0.5)
    writer.file_writer.add_event(told)
    summary = type(event.summary)()
    summary.value.add(tag="summary", simple_value=0.75)
    summary.value.add(tag="summary/2", simple_value=1.5)
    writer.file_writer.add_summary(summary, global_step=np.int64(3))
    expected = [("event", 0.25, 2), ("step inside", 0.5, 5), ("summary", 0.75, 3), ("summary/2", 1.5, 3)]
    assert expected == points(records())
    assert 9.0 == records()[0].wall_time


def test_a_summary_of_an_unknown_plugin_is_kept_whole(lib, writer, records, memory):
    """No kind for it is no reason to lose it."""
    event = lib.module.Event()
    value = event.summary.value.add(tag="odd")
    value.metadata.plugin_data.plugin_name = "nobody_knows"
    value.metadata.plugin_data.content = b"\x01\x02"
    writer.file_writer.add_event(event, 1)
    (raw,) = records()
    assert ("odd", "nobody_knows", value.SerializeToString()) == (raw.tag, raw.plugin, memory.data(raw.data))


def test_writing_after_close(lib, tmp_path, records):
    """Both libraries reopen a closed writer; so do we."""
    writer = lib.SummaryWriter(str(tmp_path / "logs"))
    writer.add_scalar("loss", 0.1, 1)
    writer.close()
    writer.add_scalar("loss", 0.2, 2)
    writer.close()
    assert [("loss", 0.1, 1), ("loss", 0.2, 2)] == points(records())


def test_two_threads_with_different_methods(writer, tmp_path, records, read_values):
    """What explains a call is the thread's own: nothing missing, nothing twice, every value exact."""
    number = 10_000

    def curve():
        for step in range(number):
            writer.add_scalar("loss", step / 3, step)

    def texts():
        for step in range(number):
            writer.add_text("note", str(step), step)

    threads = [threading.Thread(target=work) for work in (curve, texts)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    found = records()
    assert [("loss", step / 3, step) for step in range(number)] == points(found)
    assert [(str(step), step) for step in range(number)] == [(o.text, o.step) for o in found if isinstance(o, Text)]
    writer.close()
    assert 2 * number == len(read_values(tmp_path / "logs"))


def test_a_method_bound_before_the_start(lib, tmp_path, memory):
    """The program's own reference to the original is carried once by the net below it, as the file has it."""
    writer = lib.SummaryWriter(str(tmp_path / "logs"))
    bound = writer.add_scalar
    tracelet.start_logging(backend=memory)
    bound("loss", 0.1, 1)
    bound("half", 0.5, 2)
    tracelet.stop_logging()
    writer.close()
    assert [("loss", float(np.float32(0.1)), 1), ("half", 0.5, 2)] == points(memory.records)


def test_purge_step_is_the_files_own_matter(lib, tmp_path, records):
    """The two events that purge_step writes are no records."""
    with lib.SummaryWriter(str(tmp_path / "logs"), purge_step=5) as writer:
        writer.add_scalar("loss", 0.1, 5)
    assert [("loss", 0.1, 5)] == points(records())
    assert 1 == len(records())


def test_tags_that_are_more_than_a_str(lib, writer, records):
    """numpy's strings and enums are strings to TensorBoard, and plain names to us."""
    import enum

    class Tag(str, enum.Enum):
        LOSS = "loss"

    writer.add_scalar(np.str_("numpy"), 0.1, 1)
    writer.add_scalar(Tag.LOSS, 0.2, 1)
    writer.add_text(np.str_("text"), "words")
    writer.add_scalars(np.str_("main"), {np.str_("key"): 0.3}, 1)
    found = records()
    assert [("numpy", 0.1, 1), ("loss", 0.2, 1), ("main/key", 0.3, 1)] == points(found)
    assert [("text", "words")] == [(one.tag, one.text) for one in found if isinstance(one, Text)]
    assert {str} == {type(one.tag) for one in found}


# tensorboardX alone.


def test_the_global_writer(tmp_path, records):
    """GlobalSummaryWriter hands over to an ordinary one, with a step of its own; each call is carried once."""
    from tensorboardX import GlobalSummaryWriter

    writer = GlobalSummaryWriter(str(tmp_path / "logs"))
    for value in (0.1, 0.2):
        writer.add_scalar("loss", value)
    writer.add_text("note", "words")
    writer.add_image("image", np.zeros((3, 4, 4), np.uint8))
    writer.close()
    assert [("loss", 0.1, 0), ("loss", 0.2, 1)] == points(records())
    assert ["scalar", "scalar", "text", "image"] == [kind(one) for one in records()]


@pytest.mark.parametrize("name", CALLS)
def test_without_a_file(name, tmp_path, records):
    """write_to_disk=False: the same records, though there is no event file."""
    from tensorboardX import SummaryWriter

    if not hasattr(SummaryWriter, name) or name == "add_openvino_graph":
        pytest.skip("tensorboardX cannot")
    if name == "add_embedding":
        (tmp_path / "logs").mkdir()  # its files go to disk all the same
    with SummaryWriter(tmp_path / "logs", write_to_disk=False) as writer:
        make(name, writer, tmp_path)
    assert expected_records(name) == kinds_and_tags(records())


def test_a_scalar_without_a_file_is_exact(tmp_path, records):
    """Value, step and wall time are the call's."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(tmp_path / "logs", write_to_disk=False) as writer:
        writer.add_scalar("loss @ 5", 0.1, 2.5, 9.0)
    assert [Scalar("loss @ 5", 0.1, 2, 9.0)] == records()
    assert [] == [path.name for path in tmp_path.rglob("events*")]


def test_metadata_for_a_block(tmp_path, records):
    """use_metadata gives step and wall time to the calls in its block that have none."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path / "logs")) as writer:
        with writer.use_metadata(global_step=7, walltime=12.0):
            writer.add_scalar("both", 0.1)
            writer.add_scalar("own step", 0.2, 3)
        with writer.use_metadata(walltime=13.0):
            writer.add_scalar("time", 0.3)
    found = [(one.tag, one.value, one.step, one.wall_time) for one in records()]
    assert [("both", 0.1, 7, 12.0), ("own step", 0.2, 3, 12.0), ("time", 0.3, None, 13.0)] == found


def test_metadata_without_a_time_is_now(tmp_path, records):
    """Where tensorboardX writes no time at all, the record's is the call's."""
    import time

    from tensorboardX import SummaryWriter

    before = time.time()
    with SummaryWriter(str(tmp_path / "logs")) as writer, writer.use_metadata(global_step=7):
        writer.add_scalar("step", 0.1)
    (scalar,) = records()
    assert 7 == scalar.step
    assert before <= scalar.wall_time <= time.time()


@pytest.mark.parametrize("batch", [1, 4])
def test_a_video_without_moviepy(batch, lib, writer, records, memory, monkeypatch):
    """Both libraries then write an empty summary; the frames are carried all the same, as an animated picture."""
    import io

    from PIL import Image as Picture

    for name in list(sys.modules):
        if name.partition(".")[0] == "moviepy":
            monkeypatch.delitem(sys.modules, name)
    for name in ("moviepy", "moviepy.editor", "moviepy.video.io.ImageSequenceClip"):
        monkeypatch.setitem(sys.modules, name, None)
    frames = np.zeros((batch, 3, 3, 8, 10), np.uint8)
    frames[:, 1] = 255
    writer.add_video("video", frames, 2, fps=10, walltime=9.0)
    (video,) = records()
    side = int(batch**0.5)
    assert ("video", "gif", 10 * side, 8 * side, 2, 9.0) == (
        video.tag,
        video.format,
        video.width,
        video.height,
        video.step,
        video.wall_time,
    )
    picture = Picture.open(io.BytesIO(memory.data(video.data)))
    assert (3, "gif") == (picture.n_frames, picture.format.lower())
    assert [0, 255, 0] == [_corner(picture, frame) for frame in range(3)]


def _corner(picture, frame):
    picture.seek(frame)
    return picture.convert("RGB").getpixel((0, 0))[0]


def test_one_figure_or_several(lib, writer, records):
    """A list of figures is one tiled picture."""
    writer.add_figure("one", figure())
    writer.add_figure("two", [figure(), figure()])
    found = records()
    assert [("one", 20, 20), ("two", 40, 20)] == [(o.tag, o.width, o.height) for o in found if isinstance(o, Image)]
