"""Importing a run of another store again adds what is new, whatever happened in between."""

import math

import pytest
from past_stores import Journal, made

from tracelet.errors import ConfigurationError, RunInUse
from tracelet.importer import import_past_run, past_run, past_runs
from tracelet.importer.past_run import PastRun
from tracelet.journal.store import Journal as OpenJournal
from tracelet.records import Artifact, File, Params, Scalar, Tags, Text


def point(step, value=0.5):
    return Scalar("loss", value, step, 1000.0 + step)


def test_importing_again_adds_nothing(tmp_path):
    records = [Params({"lr": 0.1}, 1.0), point(1), point(1), point(0, float("nan")), Text("t", "x", None, 5.0)]
    first = import_past_run(made(records), base=tmp_path)
    again = import_past_run(made(records), base=tmp_path)
    assert (5, 0, first.folder) == (first.records, again.records, again.folder)
    assert repr(records) == repr(Journal(again).records)


def test_new_records_are_added_wherever_they_are_in_the_store(tmp_path):
    """A store may return a new point before earlier ones, as by its time."""
    import_past_run(made([point(0), point(2)]), base=tmp_path)
    done = import_past_run(made([point(0), point(1), point(1), point(2), Params({"lr": 1}, 0.0)]), base=tmp_path)
    assert [0, 2, 1, 1] == [record.step for record in Journal(done).of(Scalar)]
    assert 3 == done.records


def test_a_killed_import_neither_repeats_nor_loses_records(tmp_path, monkeypatch):
    monkeypatch.setattr(past_run, "_BATCH_RECORDS", 2)
    records = [point(step) for step in range(7)]

    def cut(started):
        yield from records[:5]
        raise KeyboardInterrupt

    run = made(records)
    run.records = cut
    with pytest.raises(KeyboardInterrupt):
        import_past_run(run, base=tmp_path)
    done = import_past_run(made(records), base=tmp_path)
    assert (3, list(range(7))) == (done.records, [record.step for record in Journal(done).records])


def test_the_run_is_described(tmp_path):
    """Name, project, tags, notes, group, start, end and result. A later tag is a record."""
    fields = {"project": "digits", "name": "first", "notes": "n", "group": "g", "program": "train.py"}
    result = {"started": 1_700_000_000.5, "ended": 1_700_000_060.0, "status": "failed", "exit_code": 3}
    import_past_run(made([point(0)], tags=("a",), **fields, **result), base=tmp_path)
    journal = Journal(import_past_run(made([point(0)], tags=("a", "b"), **fields, **result), base=tmp_path))
    info = journal.info
    assert ("digits", "first", "n", "g", "train.py", ("a",), 1_700_000_000.5) == (
        *(info.project, info.name, info.notes, info.group, info.program, info.tags, info.created),
    )
    assert ("failed", 3, 1_700_000_060.0) == tuple(journal.facts[name] for name in ("status", "exit_code", "ended"))
    assert [Tags(("b",), 1_700_000_000.5)] == journal.of(Tags)
    assert info.run_id.startswith("20231114-221320-")


def test_a_run_without_an_end_is_killed_at_its_last_record(tmp_path):
    facts = Journal(import_past_run(made([point(3), point(1)], started=1.0), base=tmp_path)).facts
    assert ("killed", None, 1003.0) == tuple(facts[name] for name in ("status", "exit_code", "ended"))


def test_a_start_outside_of_the_calendar_is_none(tmp_path):
    for number, started in enumerate((math.nan, 1e300, -5.0)):
        done = import_past_run(made([point(0)], started=started), base=tmp_path / str(number))
        assert 0.0 == Journal(done).info.created


def test_a_file_is_stored_while_it_exists(tmp_path):
    """A reader may delete a download at the next record. A missing file is damage, and not all of its artifact."""
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")

    def read(started):
        yield Artifact("model", (File("a.bin", "", 0, str(path)), File("b.bin", "", 0, "/nowhere")), 1.0, "model")
        path.unlink()
        yield Artifact("gone", (File("c.bin", "", 0, str(path)),), 1.0)

    journal = Journal(import_past_run(PastRun("csv", "1", "store", read), base=tmp_path / "runs"))
    assert {"model: a.bin": b"weights"} == journal.files()
    assert ["artifact model: b.bin", "artifact gone"] == [text.partition(" cannot")[0] for text in journal.damage]


def test_a_record_that_no_journal_can_hold_is_damage(tmp_path):
    done = import_past_run(made([Text("t", "\ud800", 1, 1.0), Scalar("s", 1.0, 2**64, 1.0), point(1)]), base=tmp_path)
    assert (1, 2) == (done.records, len(done.damage))
    assert ["a text cannot", "a scalar cannot"] == [text.partition(" be")[0] for text in done.damage]


def test_two_imports_of_one_run_do_not_meet(tmp_path):
    folder = import_past_run(made([point(0)]), base=tmp_path).folder
    journal = OpenJournal(folder)
    with pytest.raises(RunInUse):
        import_past_run(made([point(0)]), base=tmp_path)
    journal.close()


def test_an_unknown_store_is_an_error():
    with pytest.raises(ConfigurationError, match="Did you mean mlflow"):
        next(past_runs("mlfow", "x"))
