"""Hyperparameters in event files: trials of one writer, sweeps of several, and values of every kind."""

import json

import pytest
from event_files import BEGUN, event, imported, records, session, write

import tracelet
from tracelet.importer import experiments, import_run
from tracelet.records import Params, Scalar, Table


def params(found):
    """Return all parameters, the later ones over the earlier ones, as every store has them."""
    merged = {}
    for record in found:
        if isinstance(record, Params):
            merged |= record.values
    return merged


def table_rows(folder):
    """Return the rows of the last table in a run's folder."""
    table = [record for record in records(folder) if isinstance(record, Table)][-1]
    return json.loads(next((folder / "files").rglob(table.data.name)).read_bytes())["rows"]


@pytest.fixture
def sweep(tmp_path):
    """A folder with an event file of its own, and three trials below it, each with a session."""
    write(tmp_path / "sweep", event(0, tag="note"))
    for number in range(3):
        pieces = session(number, lr=0.5 + number), event(1, 0.25 * number, "acc"), event(2, 0.5, "acc")
        write(tmp_path / "sweep" / f"run-{number}", *pieces, begun=BEGUN + number)
    return tmp_path / "sweep"


def test_a_loop_of_add_hparams_is_imported_as_it_is_captured(lib, tmp_path):
    """Names of parameters and metrics, and the table."""
    with tracelet.start_logging(dir=tmp_path / "live") as live, lib.SummaryWriter(str(tmp_path / "logs")) as writer:
        for number in range(3):
            writer.add_hparams({"layers": number, "lr": 0.5 + number}, {"hparam/acc": number / 4})
        writer.add_hparams({"layers": 0, "lr": 0.5}, {"hparam/acc": 0.75})
    (experiment,) = experiments(tmp_path / "logs")
    done = import_run(experiment, base=tmp_path / "runs")
    captured, files = records(live.folder), records(done.folder)
    assert params(captured) == params(files)
    assert ["layers", "lr"] == [name for name in params(files) if "." not in name]
    for kind in (Scalar, Params, Table):
        assert 1 < len([one for one in files if isinstance(one, kind)]) or kind is Table
        assert [(getattr(one, "tag", ""), one.writer) for one in captured if isinstance(one, kind)] == [
            (getattr(one, "tag", ""), one.writer) for one in files if isinstance(one, kind)
        ]
    assert table_rows(live.folder) == table_rows(done.folder)


def test_each_trial_of_a_sweep_is_a_run(sweep, tmp_path):
    """The rest of the folder is one, too; each has its own parameters under their plain names."""
    found = experiments(sweep)
    assert ["sweep", "run-0", "run-1", "run-2"] == [folder.name for folder in found]
    runs = [records(import_run(folder, base=tmp_path / "runs", apart=found).folder) for folder in found]
    assert [{}, {"lr": 0.5}, {"lr": 1.5}, {"lr": 2.5}] == [params(run) for run in runs]
    assert [["note"], *[["acc", "acc"]] * 3] == [[one.tag for one in run if isinstance(one, Scalar)] for run in runs]


def test_a_sweep_of_writers_that_call_add_hparams_is_a_run_each(lib, tmp_path):
    """Its session is in a folder below the writer's; one of a part of a job belongs to the job."""
    for number in range(2):
        for part in ("", "val"):
            with lib.SummaryWriter(str(tmp_path / "logs" / f"run-{number}" / part)) as writer:
                writer.add_scalar("loss", 0.5, 1)
                writer.add_hparams({"lr": number + 0.5}, {"acc": 0.25})
    write(tmp_path / "logs", event(0))
    found = experiments(tmp_path / "logs")
    assert ["logs", "run-0", "run-1"] == [folder.name for folder in found]
    run = records(import_run(found[2], base=tmp_path / "runs", apart=found).folder)
    assert {"loss", "hparams/acc", "val/loss", "val/hparams/acc"} == {one.tag for one in run if isinstance(one, Scalar)}
    assert {"lr": 1.5} == params(run)


def test_a_sweep_as_one_run_keeps_each_trial(sweep, tmp_path):
    """And a later import adds new trials, to the table as well."""
    done = import_run(sweep, base=tmp_path / "runs")
    names = [f"run-{number}" for number in range(3)]
    expected = {"lr": 0.5, **{f"{name}.lr": number + 0.5 for number, name in enumerate(names)}}
    assert expected == params(records(done.folder))
    assert [[name, number + 0.5, 0.5] for number, name in enumerate(names)] == table_rows(done.folder)
    with open(next((sweep / "run-0").iterdir()), "ab") as file:
        file.write(event(3, 0.75, "acc"))
    assert 1 == import_run(sweep, base=tmp_path / "runs").records
    write(sweep / "run-3", session(9, lr=3.5), begun=BEGUN + 9)
    assert 2 == import_run(sweep, base=tmp_path / "runs").records
    assert expected | {"run-3.lr": 3.5} == params(records(done.folder))
    assert ["run-3", 3.5, None] == table_rows(done.folder)[-1]
    assert 0 == import_run(sweep, base=tmp_path / "runs").records


def test_lists_and_structs_among_hyperparameters(tmp_path):
    """They are encoded; the folder's other records and the next folder are imported."""
    write(tmp_path / "a", session(layers=[64, [32, "x"], {"k": 1}], model={"depth": 2}, lr=0.5), event(1))
    found = imported(tmp_path / "a", tmp_path / "runs")
    assert {"layers": [64, [32, "x"], {"k": 1}], "model.depth": 2, "lr": 0.5} == params(found)
    assert [1] == [one.step for one in found if isinstance(one, Scalar)]
