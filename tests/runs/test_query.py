"""Expressions that select and sort runs."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelet import ConfigurationError
from tracelet.runs.comparison import MISSING
from tracelet.runs.query import Condition, Order, QueryError, columns

NOON = 1_769_860_800.0  # 2026-01-31T12:00, UTC as in all tests


def run(**fields):
    plain = {
        "id": "r1",
        "name": "w16",
        "project": "digits",
        "group": None,
        "notes": None,
        "status": "finished",
        "tags": ("best", "two words"),
        "created": NOON,
        "duration": 90.5,
        "records": 7,
        "exit_code": 0,
        "backends": {"csv": object()},
        "params": {"lr": 1e-4, "opt.name": "adam", "layers": [1, 2], "seed": None, "on": True},
        "summary": {"val/loss": 0.25, "accuracy": math.nan},
    }
    return SimpleNamespace(**{**plain, **fields})


@pytest.mark.parametrize(
    "text",
    [
        'params.lr < 1e-3 and status == "finished"',
        "1e-5 < params.lr <= 1e-4",
        'params.opt.name == "adam"',
        'params["opt.name"] in ["sgd", "adam"]',
        'summary["val/loss"] < 0.3 or params.nothing == 1',
        '"best" in tags and "worst" not in tags',
        "'lr' in params and not 'x' in params",
        '"csv" in backends',
        "params.seed is None and params.seed == None",
        "params.on and not params.nothing",
        "exit_code == 0 and records > 5 and duration > 60",
        'created >= "2026-01-31" and "2026-02-01" > created and created < 2e9',
        "params.lr > -1",
        'name == "w16" and \n project in ("digits", "other")',
        '"w" in name',
        "2 in params.layers",
        "run_id == 'r1' and started == created",  # as in --json
    ],
)
def test_what_is_true(text):
    assert Condition(text).matches(run())


@pytest.mark.parametrize(
    "text",
    [
        "params.nothing < 1",
        "params.nothing > 1",
        "params.nothing == 1",
        "params.nothing != 1",
        "params.nothing not in [1]",
        "params.nothing",
        "summary.accuracy > 0",
        'params.lr < "a"',
        "params.lr in 3",
        'notes == "x" or "x" in notes',
        'params.opt == "adam"',
    ],
)
def test_what_is_false(text):
    """Any comparison with a missing value, or of values without an order."""
    assert not Condition(text).matches(run())


@pytest.mark.parametrize(
    ("text", "reason", "caret"),
    [
        ('__import__("os").system("true")', "calls", 0),
        ("params.lr.__class__()", "calls", 0),
        ("status.upper == 1", "only params and summary have parts", 0),
        ('params["a"]["b"] == 1', "only params and summary have parts", 0),
        ("params[0] == 1", "only params and summary have parts", 0),
        ("param.lr == 1", "Did you mean params?", 0),
        ('name == "ä" and stats == 1', "Did you mean status?", 16),
        ("params.val/loss < 1", 'summary["val/loss"]', 0),
        ("params.lr <", "Example: params.lr < 1e-3", 11),
        ("params.lr = 1", "Compare fields", None),
        ("[x for x in tags]", "not supported", 0),
        ("lambda: 1", "not supported", 0),
        ('f"{name}" == 1', "not supported", 0),
        ('name == b"x"', "not supported", 8),
        ("(y := 1)", "not supported", None),
        ("not " * 60 + "name", "nested", None),
        ("name if name else 1", "not supported", 0),
    ],
)
def test_what_is_refused(text, reason, caret):
    """With the place, before any run is read."""
    with pytest.raises(QueryError) as caught:
        Condition(text)

    first, shown, pointer = str(caught.value).split("\n")
    assert first.startswith("where: ")
    assert reason in first
    assert f"  {text}" == shown
    assert caret is None or "  " + " " * caret + "^" == pointer


@pytest.mark.parametrize("text", ["", "  ", "1 " * 2000, "\0", "(" * 500 + ")" * 500])
def test_what_is_no_expression(text):
    with pytest.raises(ConfigurationError, match="where"):
        Condition(text)


@given(st.text(alphabet="ab.[]()\"'<>=! \n\\-+*,:@{}0params", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        condition = Condition(text)
    except ConfigurationError:
        return
    assert condition.matches(run()) in (True, False)


def test_runs_are_sorted_by_several_fields_and_those_without_come_last():
    """Descending with "-"; equal ones keep their order; NaN counts as missing."""
    values = [("a", 1.0, "x"), ("b", None, "x"), ("c", 3, "y"), ("d", math.nan, "y"), ("e", 1, "y"), ("f", "text", "x")]
    runs = [run(id=name, group=group, summary={} if v is None else {"a/b": v}) for name, v, group in values]

    def order(text):
        return "".join(one.id for one in Order(text).sorted(runs))

    assert "aecfbd" == order('summary["a/b"]')
    assert "fcaebd" == order('-summary["a/b"]')
    assert "fabced" == order('group, -summary["a/b"]')
    assert "abcdef" == order("summary.nothing")
    with pytest.raises(QueryError, match="sort: calls and arithmetic"):
        Order("summary.a + 1")
    with pytest.raises(QueryError, match="sort: this is not supported"):
        Order("1")


def test_columns_are_fields_as_they_were_given():
    listed = columns('name, params.lr,summary["val/loss"], params.nothing')

    assert ["name", "params.lr", 'summary["val/loss"]', "params.nothing"] == [column.text for column in listed]
    assert ["w16", 1e-4, 0.25, MISSING] == [column.value(run()) for column in listed]
    assert ["name"] == [column.text for column in columns("name")]
