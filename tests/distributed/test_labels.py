"""The names of a rank's records in a run that several ranks share."""

import msgspec
import pytest

from tracelet.distributed.labels import labeller
from tracelet.records import KINDS, Alert, Artifact, Definition, Params, Scalar, Summary, Tags
from tracelet.testing.samples import sample_records


@pytest.mark.parametrize(("writer", "labelled_writer"), [("", "rank-3"), ("train", "rank-3/train")])
def test_a_series_gets_the_rank_before_its_name(tmp_path, writer, labelled_writer):
    """And nothing else changes."""
    records = sample_records(tmp_path)
    assert set(KINDS) == {type(record) for record in records}
    for sample in records:
        if hasattr(sample, "step"):
            record = msgspec.structs.replace(sample, writer=writer)
            labelled = labeller("rank-3/")(record)
            assert (f"rank-3/{record.tag}", labelled_writer) == (labelled.tag, labelled.writer)
            assert record == msgspec.structs.replace(labelled, tag=record.tag, writer=writer)


def test_names_of_values_get_the_rank():
    label = labeller("rank-1/")
    assert Params({"rank-1/lr": 0.1}, 5.0, "rank-1") == label(Params({"lr": 0.1}, 5.0))
    assert Summary({"rank-1/best": 1}, 5.0) == label(Summary({"best": 1}, 5.0))
    assert "rank-1/models/net.pt" == label(Artifact("models/net.pt", (), 5.0)).name


def test_a_definition_is_about_the_series_of_the_rank():
    label = labeller("rank-1/")
    assert Definition("rank-1/val/*", "rank-1/epoch", False, ("min",), 5.0) == label(
        Definition("val/*", "epoch", False, ("min",), 5.0)
    )
    assert label(Definition("loss", None, False, (), 5.0)).step_metric is None


def test_what_belongs_to_the_whole_run_stays():
    label = labeller("rank-1/")
    for record in (Tags(("a",), 5.0), Alert("title", "text", "info", 5.0), Artifact("net", (), 5.0, type="model")):
        assert record is label(record)


def test_ranks_differ():
    record = Scalar("loss", 0.5, 1, 5.0)
    assert ["rank-1/loss", "rank-12/loss"] == [labeller(f"rank-{rank}/")(record).tag for rank in (1, 12)]
