"""Series of a CSV file: which columns mean what, and exactly the values that the file has."""

import math

import pytest
from past_stores import Journal, imports, only

import tracelet
from tracelet.errors import ConfigurationError
from tracelet.records import Scalar


@pytest.fixture
def table(tmp_path):
    """`table(text)`: what an import of a file with this text has."""

    def write(text, name="table.csv", **selection):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return [Journal(one) for one in imports("csv", path, tmp_path / "runs", **selection)]

    return write


def test_a_row_is_a_point(table):
    """Values are float64, steps as they are: backwards, repeated, none."""
    rows = ["0.1,5", "1e-320,3", "NaN,3", "-inf,3", "Infinity,", "9007199254740993,9223372036854775807", "1_0,1"]
    (journal,) = table("\n".join(["tag,value,step,wall_time", *(f"loss,{row},17.25" for row in rows)]))
    values = [0.1, 1e-320, math.nan, -math.inf, math.inf, 9007199254740992.0, 10.0]
    steps = [5, 3, 3, 3, None, 2**63 - 1, 1]
    assert [("loss", step, repr(value), 17.25) for step, value in zip(steps, values, strict=True)] == journal.points()
    assert (17.25, "finished", 0) == (journal.info.created, journal.facts["status"], journal.facts["exit_code"])


def test_a_column_is_a_series(table):
    """An empty cell is no point, as in the tables of Lightning's CSVLogger."""
    (journal,) = table("epoch,step,train_loss,val_loss\n0,9,0.5,\n0,19,,0.25\n")
    points = [(tag, step, value) for tag, step, value, _ in journal.points()]
    expected = [("epoch", 9, "0.0"), ("train_loss", 9, "0.5"), ("epoch", 19, "0.0"), ("val_loss", 19, "0.25")]
    assert expected == points


@pytest.mark.parametrize(
    ("text", "tags", "times"),
    [
        ("Wall time,Step,Value\n1700000000.5,3,0.5\n", {"table"}, {1700000000.5}),  # TensorBoard's download
        ("Step,a - loss,a - loss__MIN\n3,0.5,0.5\n", {"a - loss", "a - loss__MIN"}, set()),  # W&B's
        ("iteration;loss\n3;0.5\n", {"loss"}, set()),
        ("step\tloss\ttimestamp\n3.0\t0.5\t1700000000500\n", {"loss"}, {1700000000.5}),
        ("global_step,loss,time\n3,0.5,2023-11-14T22:13:20.500Z\n", {"loss"}, {1700000000.5}),
        ("\ufeffstep,loss\r\n3,0.5\r\n", {"loss"}, set()),
        ("metric,step,value,timestamp\nloss,3,0.5,2023-11-14 22:13:20.5\n", {"loss"}, {1700000000.5}),
    ],
)
def test_columns_are_recognised_by_their_names(table, text, tags, times):
    (journal,) = table(text)
    assert (tags, {3}, {"0.5"}) == tuple({point[index] for point in journal.points()} for index in range(3))
    assert times in (set(), {time for *_, time in journal.points()})


def test_a_column_of_steps_can_be_named(table):
    (journal,) = table("batch,loss\n7,0.5\n", step_column="Batch")
    assert [("loss", 7, "0.5")] == [point[:3] for point in journal.points()]
    with pytest.raises(ConfigurationError, match=r"--step-column.*batch, loss"):
        table("batch,loss\n7,0.5\n")
    with pytest.raises(ConfigurationError, match="no column 'other'"):
        table("batch,loss\n7,0.5\n", step_column="other")


def test_a_column_of_runs_makes_runs(table):
    text = "run,step,loss\na,0,0.5\nb,0,0.25\na,1,0.125\n"
    assert [("a", [0.5, 0.125]), ("b", [0.25])] == [
        (one.info.name, [record.value for record in one.of(Scalar)]) for one in table(text)
    ]
    assert ["b"] == [one.info.name for one in table(text, runs=("b",))]


def test_invalid_cells_are_damage(table):
    """All other cells are imported; each column is reported once."""
    (journal,) = table("step,loss,time\n0,x,1.5\n1,y,1.5\n2,0.5,1.5\nz,0.25,noon\n3,0.5,inf\n")
    assert [2, None, 3] == [record.step for record in journal.of(Scalar)]
    assert [
        "table.csv, column 'loss': 2 cells are invalid; the first is 'x' in line 2",
        "table.csv, column 'time': 2 cells are invalid; the first is 'noon' in line 5",
        "table.csv, column 'step': 1 cells are invalid; the first is 'z' in line 5",
    ] == list(journal.damage)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"", b"\0\0\0"])
def test_a_file_of_another_kind_is_an_error(table, text):
    with pytest.raises(ConfigurationError):
        table(text)


def test_rows_appended_later_are_added(table):
    """Rows without a time have that of the first import."""
    text = "step,loss\n0,0.5\n"
    (first,) = table(text)
    (journal,) = table(f"{text}1,0.25\n")
    assert [first.info.created] * 2 == [time for *_, time in journal.points()]
    assert [0, 1] == [record.step for record in journal.of(Scalar)]


def test_the_table_of_the_csv_backend_is_read(tmp_path):
    with tracelet.start_logging("one", backend="csv", dir=tmp_path / "runs") as experiment:
        for step, value in enumerate([0.1, math.nan, -math.inf]):
            experiment.log_metric("loss", value, step)
    journal = only(imports("csv", experiment.folder / "csv" / "scalars.csv", tmp_path / "imported"))
    assert [("loss", 0, "0.1"), ("loss", 1, "nan"), ("loss", 2, "-inf")] == [point[:3] for point in journal.points()]
