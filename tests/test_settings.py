"""Settings: arguments over variables over the file over defaults; what nobody knows is an error wherever it stands."""

import math
from pathlib import Path

import pytest

import tracelet
from tracelet.errors import ConfigurationError
from tracelet.settings import Settings, load


def test_defaults_need_nothing():
    assert Settings() == load({}, {})


def test_the_order_of_precedence(tmp_path):
    """Argument, then variable, then file, then default."""
    Path("tracelet.toml").write_text('project = "file"\nexp_name = "file"\nnotes = "file"\n')
    settings = load({"project": "argument"}, {"TRACELET_PROJECT": "variable", "TRACELET_EXP_NAME": "variable"})
    assert ("argument", "variable", "file", None) == (
        settings.project,
        settings.exp_name,
        settings.notes,
        settings.group,
    )


def test_what_is_not_given_does_not_override():
    """None and an empty variable count as not given."""
    assert "set" == load({"project": None}, {"TRACELET_PROJECT": "set", "TRACELET_NOTES": ""}).project


@pytest.mark.parametrize(
    ("variable", "text", "field", "expected"),
    [
        ("TRACELET_BACKEND", "csv, wandb,", "backend", ("csv", "wandb")),
        ("TRACELET_TAGS", "a,b", "tags", ("a", "b")),
        ("TRACELET_FLUSH_TIMEOUT", "2.5", "flush_timeout", 2.5),
        ("TRACELET_QUEUE_BYTES", "1000", "queue_bytes", 1000),
        ("TRACELET_MODE", "offline", "mode", "offline"),
        ("TRACELET_EXPERIMENT_NAME", "old name", "exp_name", "old name"),
        ("TRACELET_PROJECT", "5", "project", "5"),
        ("TRACELET_EVENTS", "async", "events", "async"),
        ("TRACELET_EVENTS", "False", "events", "off"),
        ("TRACELET_EVENTS", "0", "events", "off"),
        ("TRACELET_EVENTS", "true", "events", "sync"),
        ("TRACELET_DELIVERY", "process", "delivery", "process"),
        ("TRACELET_WAIT", "false", "wait", False),
        ("TRACELET_COLLECT", "git, console", "collect", ("git", "console")),
        ("TRACELET_COLLECT", "None", "collect", ()),
        ("TRACELET_COLLECT", "0", "collect", ()),
        ("TRACELET_COLLECT", "True", "collect", ("environment", "git", "system")),
        ("TRACELET_COLLECT", "git,git", "collect", ("git",)),
        ("TRACELET_SYSTEM_INTERVAL", "0.5", "system_interval", 0.5),
        ("TRACELET_CAPTURE", "tensorboard, wandb", "capture", ("tensorboard", "wandb")),
        ("TRACELET_CAPTURE", "none", "capture", ()),
        ("TRACELET_CAPTURE", "true", "capture", ("tensorboard",)),
    ],
)
def test_variables(variable, text, field, expected):
    """Text becomes the type of the field."""
    assert expected == getattr(load({}, {variable: text}), field)


@pytest.mark.parametrize(
    "field",
    sorted(
        set(Settings.__struct_fields__)
        - {"backend", "tags", "mode", "events", "delivery", "wait", "collect", "capture"}
        - {"run_mode", "rank_scope", "children"}
    ),
)
def test_every_field_has_a_variable(field):
    assert getattr(load({}, {f"TRACELET_{field.upper()}": "7"}), field) in ("7", 7)


def refusal(arguments, environ):
    with pytest.raises(ConfigurationError) as caught:
        load(arguments, environ)
    return str(caught.value)


def test_an_unknown_variable_is_an_error():
    """A misspelt variable is not ignored; the message tells the one that was meant, or all that are known."""
    told = refusal({}, {"TRACELET_PROJEKT": "x"})
    assert "unknown environment variable TRACELET_PROJEKT. Did you mean TRACELET_PROJECT?" == told
    told = refusal({}, {"TRACELET_COLOUR": "x"})
    assert told.startswith("unknown environment variable TRACELET_COLOUR. Known: TRACELET_EXP_NAME, TRACELET_PROJECT")
    assert told.endswith("TRACELET_CONFIG")


def test_an_unknown_key_of_the_file_is_an_error():
    Path("tracelet.toml").write_text("flsh_timeout = 5")
    told = refusal({}, {})
    assert "settings file tracelet.toml: unknown key 'flsh_timeout'. Did you mean flush_timeout?" == told
    Path("tracelet.toml").write_text("colour = 5")
    assert "unknown key 'colour'. Known: exp_name, project, backend" in refusal({}, {})


def test_foreign_variables_are_not_ours():
    assert Settings() == load({}, {"WANDB_PROJECT": "x", "TRACE": "y", "tracelet_project": "z"})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("FLUSH_TIMEOUT", "soon"),
        ("MODE", "on"),
        ("QUEUE_BYTES", "1.5"),
        ("EVENTS", "some"),
        ("WAIT", "a while"),
        ("COLLECT", "gti"),
        ("CAPTURE", "wanbd"),
        ("SYSTEM_INTERVAL", "0"),
    ],
)
def test_a_variable_of_the_wrong_type_is_an_error(variable, text):
    with pytest.raises(ConfigurationError, match=variable.lower()):
        load({}, {f"TRACELET_{variable}": text})


def test_a_mistake_is_told_with_where_it_stands(tmp_path):
    """The setting, its value, where it comes from and what it takes, in one short sentence."""
    told = refusal({"flush_timeout": "abc"}, {"TRACELET_FLUSH_TIMEOUT": "5"})
    assert "flush_timeout must be a number of seconds, got 'abc' as an argument" == told
    assert "wait must be true or false, got 'maybe' from TRACELET_WAIT" == refusal({}, {"TRACELET_WAIT": "maybe"})
    told = refusal({}, {"TRACELET_CONNECT_TIMEOUT": "-1"})
    assert "connect_timeout must be 0 or more, got '-1' from TRACELET_CONNECT_TIMEOUT" == told
    told = refusal({}, {"TRACELET_SYSTEM_INTERVAL": "nan"})
    assert "system_interval must be more than 0 seconds, got 'nan' from TRACELET_SYSTEM_INTERVAL" == told
    (tmp_path / "mine.toml").write_text("exp_name = 5")
    told = refusal({}, {"TRACELET_CONFIG": str(tmp_path / "mine.toml")})
    assert f"exp_name must be text, got 5 from {tmp_path / 'mine.toml'}" == told


def test_a_mistake_in_a_credential_is_told_without_it():
    assert "api_key must be text, got another type as an argument" == refusal({"api_key": 12345678}, {})


@pytest.mark.parametrize("key", ["flush_timeout", "connect_timeout", "queue_timeout", "system_interval"])
def test_a_time_without_end(key):
    """Infinity is as long as it takes: a number that clocks can still reckon with. No number is an error."""
    for given in (math.inf, "inf", 1e300):
        assert math.isfinite(getattr(load({key: given}, {}), key))
        assert getattr(load({key: given}, {}), key) > 7 * 86400
    assert key in refusal({key: math.nan}, {})


@pytest.mark.parametrize("tags", [{"a": 1}, 5, [1], ["a", None]])
def test_tags_are_words(tags):
    """A dict of them would lose its values."""
    expected = f"tags must be a list of strings or a comma-separated string, got {tags!r} as an argument"
    assert expected == refusal({"tags": tags}, {})


def test_the_file():
    """`tracelet.toml` in the working directory; lists, numbers, text."""
    Path("tracelet.toml").write_text('backend = ["csv"]\ntags = "a, b"\nflush_timeout = 5\nmode = "offline"\n')
    settings = load({}, {})
    assert (("csv",), ("a", "b"), 5.0, "offline") == (
        settings.backend,
        settings.tags,
        settings.flush_timeout,
        settings.mode,
    )


def test_a_named_file(tmp_path):
    """TRACELET_CONFIG names another one, which then must be there."""
    (tmp_path / "mine.toml").write_text('project = "mine"')
    Path("tracelet.toml").write_text('project = "other"')
    assert "mine" == load({}, {"TRACELET_CONFIG": str(tmp_path / "mine.toml")}).project
    with pytest.raises(ConfigurationError, match=r"settings file .*none\.toml"):
        load({}, {"TRACELET_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    "text", ["projekt = 1", "project = ", "project = 5", "[project]\nname = 1", "flush_timeout = 'x'"]
)
def test_a_file_with_mistakes(text):
    Path("tracelet.toml").write_text(text)
    with pytest.raises(ConfigurationError):
        load({}, {})


def test_a_file_that_is_no_text():
    Path("tracelet.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match=r"tracelet\.toml"):
        load({}, {})


def test_a_repr_shows_no_credential():
    settings = load({"api_key": "sk-secret", "project": "p"}, {})
    assert "sk-secret" not in repr(settings)
    assert "api_key='***'" in repr(settings)
    assert "project='p'" in repr(settings)


def test_they_reach_the_run(monkeypatch, tmp_path):
    """From the environment alone: backend, name, project, place."""
    monkeypatch.setenv("TRACELET_BACKEND", "memory")
    monkeypatch.setenv("TRACELET_EXPERIMENT_NAME", "name")
    monkeypatch.setenv("TRACELET_PROJECT", "project")
    monkeypatch.setenv("TRACELET_DIR", str(tmp_path / "elsewhere"))
    experiment = tracelet.start_logging()
    assert ("name", "project", {"memory"}) == (experiment.name, experiment.project, set(experiment.stats().backends))
    assert tmp_path / "elsewhere" / "project" / experiment.run_id == experiment.folder


def test_a_relative_place_is_fixed_at_the_start(monkeypatch, tmp_path):
    """A program that changes its directory later keeps its run where it was."""
    (tmp_path / "away").mkdir()
    experiment = tracelet.start_logging(dir="here", backend="csv")
    monkeypatch.chdir(tmp_path / "away")
    experiment.log_metric("loss", 1)
    experiment.log_artifact(b"x", "x.bin")
    experiment.stop()
    assert tmp_path / "here" / "default" / experiment.run_id == experiment.folder
    assert 1 == experiment.stats().backends["csv"].delivered - 1
    assert [] == list((tmp_path / "away").iterdir())
