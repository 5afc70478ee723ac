"""Tables have the rows, types and errors of those of the real wandb."""

import datetime
import json
import sys
import types
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import wandb
from wandb.sdk.data_types.utils import _json_helper

from tracelet.compat.wandb import data_types as ours
from tracelet.compat.wandb.errors import Error
from tracelet.records import Image, Table, Text

WHEN = datetime.datetime(2024, 5, 6, 7, 8, 9)
FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [0.5, float("nan")]})
MODULES = (wandb, ours)


def records(table, name="table", step=3):
    return list(table.records(name, step, 1.5))


def content(record):
    return json.loads(record.data)


@pytest.mark.parametrize(
    "options",
    [
        {"columns": ["a", "b"], "data": [[1, "x"], [2.5, None]]},
        {"columns": ["a", "b"], "rows": [(1, "x")]},
        {"columns": ["a", 1], "data": np.array([[1.5, 2.5], [3.5, 4.5]])},
        {"dataframe": FRAME},
        {"data": FRAME},
        {"data": [["i", "o", "e"]]},
        {},
        {"columns": ["a"], "data": [[1], ["x"], [None]], "allow_mixed_types": True},
        {"columns": ["l", "d"], "data": [[[1, 2], {"k": "v"}], [[3], {"k": "w"}]]},
        {"columns": ["a", "b"], "data": [[1, "x"]], "dtype": [int, str], "optional": [False, True]},
        {"columns": ["t", "day"], "data": [[WHEN, WHEN.date()]]},
        {"columns": ["flag"], "data": [[True], [np.bool_(False)]]},
    ],
)
def test_a_table_has_the_rows_and_types_of_wandb(options):
    """Built from rows, arrays and DataFrames; its file has the same columns, cells and column types."""
    real, own = (module.Table(**options) for module in MODULES)

    assert real.columns == own.columns
    (data,) = own.files("t").values()
    stored = json.loads(data)
    np.testing.assert_equal([_json_helper(row, None) for row in real.data], stored["data"])
    assert json.loads(json.dumps(real._column_types.to_json())) == stored["column_types"]
    assert ("table", real.columns, len(real.data)) == (stored["_type"], stored["columns"], stored["nrows"])
    assert {
        "_type": "table-file",
        "ncols": len(real.columns),
        "nrows": len(real.data),
        "log_mode": "IMMUTABLE",
    } == own.summary()


def test_the_record_of_a_table_has_all_rows():
    """Also beyond MAX_ROWS, at which the real wandb cuts."""
    table = ours.Table(["n", "when"], [[number, WHEN] for number in range(ours.Table.MAX_ROWS + 5)])

    (record,) = records(table)

    assert ("table", 3, 1.5) == (record.tag, record.step, record.wall_time)
    assert ["n", "when"] == content(record)["columns"]
    assert 10_005 == len(content(record)["rows"])
    assert [10_004, "2024-05-06 07:08:09"] == content(record)["rows"][-1]


@pytest.mark.parametrize(
    ("options", "row", "error"),
    [
        ({"columns": ["a", "b"]}, [1], ValueError),
        ({"columns": ["a"], "data": [[1]]}, ["x"], TypeError),
        ({"columns": ["a"], "data": [["x"]]}, [1], TypeError),
        ({"columns": ["a"], "data": [[True]]}, [1], TypeError),
        ({"columns": ["a"], "data": [[1]], "optional": False}, [None], TypeError),
        ({"columns": ["a"], "dtype": str}, [1], TypeError),
        ({"columns": ["a"], "data": [[[1]]]}, [["x"]], TypeError),
        ({"columns": ["a"], "data": [[{"k": 1}]]}, [{"k": "x"}], TypeError),
        ({"columns": ["a"], "data": [[{"k": 1}]]}, [{"other": 1}], TypeError),
        ({"columns": ["a"], "data": [[np.zeros(2)]]}, [np.zeros(3)], TypeError),
        ({"columns": ["a"], "data": [[WHEN]]}, [1], TypeError),
    ],
)
def test_a_row_that_does_not_fit_is_an_error(options, row, error):
    """The table is as before."""
    for module in MODULES:
        table = module.Table(**options)
        rows = len(table.data)
        with pytest.raises(error):
            table.add_data(*row)
        assert rows == len(table.data)


@pytest.mark.parametrize(
    ("options", "row"),
    [
        ({"columns": ["a"], "data": [[1]]}, [2.5]),
        ({"columns": ["a"], "data": [[1]]}, [np.float32(2)]),
        ({"columns": ["a"], "data": [[1]]}, [float("nan")]),
        ({"columns": ["a"], "data": [[None]]}, ["x"]),
        ({"columns": ["a"], "data": [[[1]]]}, [[]]),
        ({"columns": ["a"], "data": [[np.zeros(2)]]}, [[1, 2]]),
        ({"columns": ["a"], "data": [["x"]], "allow_mixed_types": True}, [1]),
    ],
)
def test_a_row_that_fits_is_added(options, row):
    for module in MODULES:
        table = module.Table(**options)
        table.add_data(*row)
        assert 2 == len(table.data)


@pytest.mark.parametrize("options", [{"columns": "ab"}, {"columns": [1.5]}, {"columns": ["a"], "log_mode": "OTHER"}])
def test_invalid_arguments_are_errors(options):
    for module in MODULES:
        with pytest.raises(AssertionError):
            module.Table(**options)


def test_a_frame_may_have_any_column_names_and_missing_times():
    """Names that are neither text nor int become text; the real wandb raises AssertionError."""
    times = pd.to_datetime(["2024-01-01", None])
    frame = pd.DataFrame([[1, 2], [3, 4]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]))
    frame["when"] = times

    table = ours.Table(dataframe=frame)

    assert ["('a', 'x')", "('a', 'y')", "('when', '')"] == table.columns
    (data,) = table.files("t").values()
    assert [[1, 2, 1704067200000], [3, 4, None]] == json.loads(data)["data"]


def test_columns_are_added_and_read_as_in_wandb():
    tables = [module.Table(["x"], [[1], [2]]) for module in MODULES]
    for table in tables:
        table.add_column("y", [3, 4])
        table.add_column("z", np.array([0.5, 1.5]))
        table.add_computed_columns(lambda index, row: {"sum": row["x"] + row["y"], "index": int(index)})
        with pytest.raises(AssertionError):
            table.add_column("y", [1, 2])
        with pytest.raises(AssertionError):
            table.add_column("short", [1])
        with pytest.raises(TypeError):
            table.add_column("mixed", [1, "x"])

    real, own = tables
    assert (real.columns, real.data) == (own.columns, own.data)
    assert real.get_column("sum") == own.get_column("sum") == [4, 6]
    assert real.get_column("z", convert_to="numpy").tolist() == own.get_column("z", convert_to="numpy").tolist()
    assert real.get_dataframe().equals(own.get_dataframe())
    assert list(real.iterrows()) == list(own.iterrows())
    assert [0, 1] == own.get_index()
    assert real.index_ref(1).get_row() == own.index_ref(1).get_row()


def test_the_first_columns_make_the_rows():
    for module in MODULES:
        table = module.Table(columns=[])
        table.add_column("a", [1, 2])
        assert [[1], [2]] == table.data


def test_cast_checks_the_cells():
    for module in MODULES:
        table = module.Table(["a"], [[1]])
        table.cast("a", int)
        with pytest.raises(TypeError):
            table.cast("a", str)
        with pytest.raises(TypeError):
            table.add_data(None)


def test_keys_are_accepted():
    first, second = ours.Table(["id"], [["a"]]), ours.Table(["ref"], [["a"]])
    first.set_pk("id")
    second.set_fk("ref", first, "id")

    with pytest.raises(AssertionError):
        first.set_pk("other")


def test_tables_are_equal_as_in_wandb():
    for module in MODULES:
        table = module.Table(["a"], [[np.array([1, 2])]])
        assert table == module.Table(["a"], [[np.array([1, 2])]])
        assert table != module.Table(["a"], [[np.array([1, 3])]])
        assert table != module.Table(["b"], [[np.array([1, 2])]])
        assert table != "table"


def test_media_in_cells_are_records_of_their_own():
    """The cell has the name of its record, also inside a list or another table."""
    image = ours.Image(np.zeros((2, 2)), caption="c")
    inner = ours.Table(["i"], [[image]])

    found = records(ours.Table(["a/b", "list", "inner"], [[image, [image, 1], inner]]))

    assert {
        "columns": ["a/b", "list", "inner"],
        "rows": [["table/a/b/0", ["table/list/0/0", 1], "table/inner/0"]],
    } == content(found[0])
    assert [
        (Table, "table"),
        (Image, "table/a/b/0"),
        (Image, "table/list/0/0"),
        (Table, "table/inner/0"),
        (Image, "table/inner/0/i/0"),
    ] == [(type(record), record.tag) for record in found]
    assert "c" == found[1].caption


def test_an_incremental_table_logs_the_rows_since_the_last_time():
    table = ours.Table(["n"], [[1]], log_mode="INCREMENTAL")

    assert [[1]] == content(records(table)[0])["rows"]
    table.add_data(2)
    assert [[2]] == content(records(table)[0])["rows"]
    assert ("incremental-table-file", 2) == (table.summary()["_type"], table.summary()["nrows"])
    with pytest.raises(Error, match="INCREMENTAL"):
        table.add_column("x", [1, 2])


def test_a_table_without_pandas_has_no_frame(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(Error, match="pip install pandas"):
        ours.Table(["a"], [[1]]).get_dataframe()


def test_joined_tables_are_logged_with_their_tables():
    table = ours.Table(["id"], [[1]])
    joined = ours.JoinedTable(table, "other.table.json", "id")

    text, record = records(joined)

    assert {"table1": "table/table1", "table2": "other.table.json", "join_key": "id"} == json.loads(text.text)
    assert "table/table1" == record.tag
    files = joined.files("j")
    assert {"j.joined-table.json", "j_table1.table.json"} == set(files)
    assert "j_table1.table.json" == json.loads(files["j.joined-table.json"])["table1"]


@pytest.mark.parametrize("arguments", [("a.csv", "b.table.json", "id"), ("a.table.json", "b.table.json", 1)])
def test_an_invalid_join_is_an_error(arguments):
    for module in MODULES:
        with pytest.raises(ValueError):
            module.JoinedTable(*arguments)


def test_an_evaluation_table_is_logged_with_its_roles():
    table = ours.EvalTable(input_columns=["x"], score_columns=["s"], data=[[1, 0.5]])

    rows, roles = records(table)

    assert {"columns": ["x", "s"], "rows": [[1, 0.5]]} == content(rows)
    roles_json = '{"input_columns": ["x"], "output_columns": [], "score_columns": ["s"]}'
    assert Text("table/roles", roles_json, 3, 1.5) == roles


class Downloaded:
    """The files of an artifact of the real wandb, once downloaded."""

    def __init__(self, folder, files):
        self.folder = folder
        for path, data in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    def get_entry(self, path):
        return types.SimpleNamespace(download=lambda: str(self.folder / path))

    get = get_entry


def test_the_real_wandb_reads_our_table_files(tmp_path):
    """With times, missing values and images."""
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    rows = [
        [1, WHEN.replace(tzinfo=datetime.timezone.utc), ["x"]],
        [None, WHEN.replace(tzinfo=datetime.timezone.utc), []],
    ]
    table = ours.Table(["n", "when", "list", "image"], [[*row, ours.Image(pixels, caption="c")] for row in rows])
    files = table.files("t")

    read = wandb.Table.from_json(json.loads(files["t.table.json"]), Downloaded(tmp_path, files))

    assert rows == [row[:3] for row in read.data]
    assert [pixels.tolist()] * 2 == [np.asarray(row[3].image).tolist() for row in read.data]
    assert ["c", "c"] == [row[3]._caption for row in read.data]


@pytest.mark.parametrize(
    ("dtype", "fitting", "wrong"),
    [
        (str, "x", 1),
        (float, 1, "x"),
        (bool, True, 1),
        (datetime.datetime, WHEN, 1),
        (list, [1], 1),
        ([int], 1, "x"),
        ({"k": int}, {"k": 1}, {"k": "x"}),
        (np.float32, np.float32(1), "x"),
    ],
)
def test_dtypes_are_checked_as_in_wandb(dtype, fitting, wrong):
    for module in MODULES:
        table = module.Table(["a"], [[fitting], [None]], dtype=dtype)
        with pytest.raises(TypeError):
            table.add_data(wrong)


def test_a_column_of_images_has_only_images():
    for module in MODULES:
        table = module.Table(["a"], [[module.Image(np.zeros((2, 2)))]], dtype=module.Image)
        with pytest.raises(TypeError):
            table.add_data(1)
        assert [[[[0, 0], [0, 0]]]] == [table.get_column("a", convert_to="numpy").tolist()]


@pytest.mark.parametrize(
    "cells",
    [
        [np.zeros(3), np.ones(3)],
        [np.datetime64("2024-01-01T00:00:01"), None],
        [{"k": [1, 2]}, {"k": [3]}],
        [("a", "b"), ("c",)],
        [Decimal("1.5"), Decimal("2")],
        [[[1], [2]], [[3]]],
        [[1, None], [2, 3]],
        [np.str_("x"), "y"],
    ],
)
def test_cells_of_other_types_are_stored_as_in_wandb(cells):
    rows = [[cell] for cell in cells]
    real = wandb.Table(["a"], rows, allow_mixed_types=True)

    (data,) = ours.Table(["a"], rows).files("t").values()

    assert [_json_helper(row, None) for row in real.data] == json.loads(data)["data"]


def test_media_in_a_dict_are_records_of_their_own():
    found = records(ours.Table(["d"], [[{"k": ours.Image(np.zeros((2, 2)))}]]))

    assert [[{"k": "table/d/0/k"}]] == content(found[0])["rows"]
    assert "table/d/0/k" == found[1].tag
