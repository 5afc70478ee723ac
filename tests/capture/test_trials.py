"""Parameters of several trials in one run are kept under the name of each, and in one table."""

import json
from pathlib import Path

import tracelet
from tracelet.capture.trials import Trials
from tracelet.journal.store import JournalReader
from tracelet.records import Params, Scalar, Table


def split(trials, name, is_new_call=True, **values):
    """Return the parameters as the run has them."""
    return [dict(one.values) for one in trials.split(Params(values, 0.0, name), is_new_call=is_new_call)]


def rows(records):
    """Return the columns and the rows of the only table."""
    (table,) = [record for record in records if isinstance(record, Table)]
    data = json.loads(table.data if isinstance(table.data, bytes) else Path(table.data.path).read_bytes())
    return [data["columns"], *data["rows"]]


def params(records):
    """Return all parameters of a run, the later ones over the earlier ones, as every store has them."""
    merged = {}
    for record in records:
        if isinstance(record, Params):
            merged |= record.values
    return merged


def test_one_trial_alone_has_plain_names():
    """Also when it is repeated, and as its event file has it."""
    trials = Trials()
    assert [[{"lr": 1}], [{"lr": 1.0}]] == [split(trials, "hparams", lr=lr) for lr in (1, 1.0)]
    split(trials, "hparams", lr=1, none=None)
    assert ["hparams"] == list(trials.known)
    assert None is trials.table("trials", 0.0)


def test_a_second_trial_names_both():
    """The plain names stay those of the first one."""
    trials = Trials()
    assert [{"lr": 1}] == split(trials, "a", lr=1)
    assert [{"a.lr": 1}, {"b.lr": 2}] == split(trials, "b", lr=2)
    assert [{"c.lr": 3}] == split(trials, "c", lr=3)
    assert [{"lr": 1}, {"a.lr": 1}] == split(trials, "a", lr=1)


def test_trials_with_the_same_values_have_plain_names():
    """As two trainings in one run; all are named once another one has other values."""
    trials = Trials()
    assert [[{"lr": 1}], [{"lr": 1}]] == [split(trials, name, lr=1) for name in "ab"]
    assert None is trials.table("trials", 0.0)
    assert [{"a.lr": 1}, {"b.lr": 1}, {"c.lr": 2}] == split(trials, "c", lr=2)
    assert [["trial", "lr"], ["a", 1], ["b", 1], ["c", 2]] == rows([trials.table("trials", 0.0)])


def test_a_name_that_is_taken_by_other_values_gets_a_number():
    """For a call; values of a writer's own file are updated, as when Lightning logs them again."""
    trials = Trials()
    assert [{"lr": 1}] == split(trials, "best", lr=1)
    assert [{"best.lr": 1}, {"best-2.lr": 2}] == split(trials, "best", lr=2)
    again = Trials()
    assert [[{"lr": 1}], [{"lr": 2}]] == [split(again, "", is_new_call=False, lr=lr) for lr in (1, 2)]


def test_a_parameter_and_a_metric_of_one_name_are_two_columns():
    trials = Trials()
    for name in "ab":
        split(trials, name, loss=name)
        trials.add_metrics(name, {"loss": 0.5})
    assert [["trial", "loss", "loss~2"], ["a", "a", 0.5], ["b", "b", 0.5]] == rows([trials.table("trials", 0.0)])


def test_trials_of_one_writer_are_all_kept(writer, memory):
    """add_hparams in a loop: parameters and metrics of each, and the table."""
    with tracelet.start_logging(backend=memory):
        for number in range(3):
            writer.add_hparams({"lr": 0.5 + number}, {"acc": number})
            writer.add_hparams({"lr": 0.5 + number}, {"acc": number + 0.5})  # the same trial again
    names = ["hparams", "hparams-2", "hparams-3"]
    assert {"lr": 0.5, **{f"{name}.lr": 0.5 + number for number, name in enumerate(names)}} == params(memory.records)
    points = [(one.tag, one.value) for one in memory.records if isinstance(one, Scalar)]
    assert [(f"{name}/acc", number + more) for number, name in enumerate(names) for more in (0, 0.5)] == points
    expected = [[name, 0.5 + number, number + 0.5] for number, name in enumerate(names)]
    assert [["trial", "lr", "acc"], *expected] == rows(memory.records)


def test_trials_with_names_and_of_several_writers(lib, tmp_path, memory):
    """Each has the name of its directory; `hparam/` before a metric is not repeated."""
    keyword = "run_name" if lib.is_torch else "name"
    with tracelet.start_logging(backend=memory):
        with lib.SummaryWriter(str(tmp_path / "logs")) as writer, lib.SummaryWriter(str(tmp_path / "logs/b")) as other:
            writer.add_hparams({"lr": 1}, {"hparam/acc": 0.5}, **{keyword: "big"})
            writer.add_hparams({"lr": 2}, {"hparam/acc": 0.25})
            other.add_hparams({"lr": 3}, {"hparam/acc": 0.125})
    assert {"lr": 1, "big.lr": 1, "hparams.lr": 2, "b/hparams.lr": 3} == params(memory.records)
    assert ["big/hparam/acc", "hparam/acc", "b/hparam/acc"] == [
        one.tag for one in memory.records if isinstance(one, Scalar)
    ]
    assert ["big", "hparams", "b/hparams"] == [row[0] for row in rows(memory.records)[1:]]


def test_trials_of_a_resumed_run_overwrite_none_of_the_earlier_ones(lib, tmp_path):
    """New values are a new trial; the same values are the same trial, with its names."""
    for rates in ((1, 2), (2, 3)):
        with tracelet.start_logging(run_id="sweep") as run, lib.SummaryWriter(str(tmp_path / "logs")) as writer:
            for rate in rates:
                writer.add_hparams({"lr": rate}, {"acc": rate / 2})
    with JournalReader(run.folder) as reader:
        records = list(reader.records())
    assert {"lr": 1, "hparams.lr": 1, "hparams-2.lr": 2, "hparams-3.lr": 3} == params(records)
    assert [("hparams/acc", 0.5), ("hparams-2/acc", 1.0), ("hparams-2/acc", 1.0), ("hparams-3/acc", 1.5)] == [
        (one.tag, one.value) for one in records if isinstance(one, Scalar)
    ]


def test_lists_and_structs_among_hyperparameters(tmp_path, memory):
    """A session that a program writes itself may have them: lists stay lists, names of structs have dots."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    with tracelet.start_logging(backend=memory) as run, SummaryWriter(str(tmp_path / "logs")) as writer:
        session = hparams({"lr": 0.5}, {})[1]
        data = HParamsPluginData.FromString(session.value[0].metadata.plugin_data.content)
        data.session_start_info.hparams["layers"].list_value.extend([64, "a", [True, None], {"deep": 1}])
        data.session_start_info.hparams["model"].struct_value.update({"depth": 2, "sizes": [1], "none": None})
        session.value[0].metadata.plugin_data.content = data.SerializeToString()
        writer.file_writer.add_summary(session)
    expected = {"lr": 0.5, "layers": [64, "a", [True, None], {"deep": 1}], "model.depth": 2, "model.sizes": [1]}
    assert {**expected, "model.none": None} == params(memory.records)
    with JournalReader(run.folder) as reader:
        assert 1 == len(list(reader.records()))
