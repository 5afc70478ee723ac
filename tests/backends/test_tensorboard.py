"""The tensorboard backend: the contract, and what TensorBoard and an import read."""

import shutil

import msgspec
import numpy as np
from backends import tensorboard_store
from importer.event_files import as_in_files
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata

import tracelet
from tracelet import records as r
from tracelet import sync
from tracelet.backends.tensorboard import TensorBoardBackend, TensorBoardConfig
from tracelet.importer import import_run
from tracelet.journal.store import JournalReader
from tracelet.records import File, Layout, Params, RawSummary, Scalar, Table, Tensor
from tracelet.testing import BackendContract, deliver, run_info, sample_records
from tracelet.testing.samples import WALL_TIME, stored

NOT_IN_EVENTS = (r.Artifact, r.Summary, r.Tags, r.Alert, r.Definition, Table, RawSummary)
LAYOUT = "custom_scalars__config__"


class TestTensorBoard(BackendContract):
    knows_its_store = True

    def make_backend(self, tmp_path):
        return TensorBoardBackend()

    def read_back(self, tmp_path):
        return tensorboard_store.stored(tmp_path / "run" / "tensorboard")


def written(tmp_path, records, **config):
    backend = TensorBoardBackend(TensorBoardConfig(**config))
    backend.open(run_info(tmp_path))
    deliver(backend, records)
    backend.close("finished", 0)
    return backend.folder


def imported(folder, tmp_path):
    run = import_run(folder, base=tmp_path / "imported")
    assert run.damage == ()
    with JournalReader(run.folder) as reader:
        return list(reader.records())


def test_an_import_gives_the_same_records(tmp_path):
    """Of each kind that event files have. A table is a text, and a layout has TensorBoard's own tag."""
    records = [record for record in sample_records(tmp_path) if not isinstance(record, NOT_IN_EVENTS)]
    plugin = Summary.Value(tag="mine", metadata=SummaryMetadata(plugin_data={"plugin_name": "mine"}))
    records += [RawSummary("mine", stored(tmp_path, plugin.SerializeToString(), "raw"), "mine", 1, WALL_TIME)]
    records += [Scalar("train/loss", 0.1, 1, WALL_TIME, "train"), Scalar("val/loss", 1e300, 1, WALL_TIME, "val")]

    found = imported(written(tmp_path, records), tmp_path)

    expected = [msgspec.structs.replace(one, tag=LAYOUT) if isinstance(one, Layout) else one for one in records]
    expected = [with_floats(one) if isinstance(one, Params) else one for one in expected]
    assert sorted(map(neutral, expected), key=str) == sorted(map(neutral, found), key=str)


def with_floats(params):
    """Numbers of hyper-parameters are floats in event files, also in lists."""
    lists = {name: [*map(float, value)] for name, value in params.values.items() if isinstance(value, list)}
    return msgspec.structs.replace(params, values={**params.values, **lists})


def neutral(record):
    """Files by their bytes: their names are those of the spool."""
    fields = msgspec.structs.asdict(record if isinstance(record, Scalar) else as_in_files(record))
    for name, value in fields.items():
        files = value if isinstance(value, tuple) else (value,)
        if any(isinstance(file, File) for file in files):
            fields[name] = [file.digest for file in files]
    if isinstance(record, Tensor):
        fields["dtype"] = np.dtype(record.dtype).str
    return type(record).__name__, fields


def test_tensorboard_shows_each_kind_in_its_plugin(tmp_path):
    """As its own reader says, which the server uses."""
    folder = written(tmp_path, sample_records(tmp_path))
    reader = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    reader.Reload()
    shown = {tag: reader.SummaryMetadata(tag).plugin_data.plugin_name for tag in reader.Tags()["tensors"]}
    expected = {f"sample/{kind}": f"{kind}s" for kind in ("scalar", "histogram", "image", "pr_curve")}
    expected |= {"sample/video": "images", "sample/audio": "audio", "sample/text": "text", "sample/table": "text"}
    expected |= {"sample/tensor": "tensor", "sample/graph": "graphs", LAYOUT: "custom_scalars"}
    assert expected == {tag: plugin for tag, plugin in shown.items() if tag in expected}
    assert {"sample/mesh_VERTEX", "sample/mesh_FACE"} <= shown.keys()
    shown = [(event.step, event.tensor_proto.float_val[0]) for event in reader.Tensors("sample/scalar")]
    assert [(3, np.float32(0.1))] == shown
    assert "sample/embedding" in (folder / "projector_config.pbtxt").read_text()


def test_a_run_that_is_delivered_later_has_the_same_files(tmp_path):
    """By `tracelet sync`, byte for byte."""
    with tracelet.start_logging(dir=tmp_path, backend="tensorboard", collect=False) as experiment:
        for step in range(100):
            experiment.log_metrics({"train/loss": 1 / (step + 1), "val/loss": step}, step)
        experiment.log_params({"lr": 0.1, "layers": [1, 2], "name": None})
        experiment.log_table("table", [[1, "a"]], columns=["number", "text"])
        experiment.log_histogram("weights", [0.0, 0.5, 1.0], 4, bins=2)
    config = {"tensorboard": {"dir": str(tmp_path / "later")}}
    assert sync.deliver(experiment.folder, ["csv"]).complete
    shutil.move(experiment.folder / "tensorboard", tmp_path / "live")
    assert sync.deliver(experiment.folder, ["tensorboard"], config=config, verify=True).complete
    assert files(tmp_path / "live") == files(tmp_path / "later")
    assert {"params.json", f"files/table/table/0-{table_time(experiment)!r}.json"} <= files(tmp_path / "live").keys()


def files(folder):
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if name not in (".state.json", "run.json")}


def table_time(experiment):
    with JournalReader(experiment.folder) as reader:
        return next(record.wall_time for record in reader.records() if isinstance(record, Table))
