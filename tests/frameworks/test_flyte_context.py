"""The context of Flyte tasks: texts, their types, and what wins."""

import json
import pickle

import flyte
import pytest
from frameworks.flyte_tasks import in_task, run_task

from tracelet.errors import ConfigurationError
from tracelet.integrations.flyte import (
    get_wandb_context,
    get_wandb_sweep_context,
    run_config,
    wandb_config,
    wandb_sweep_config,
)
from tracelet.integrations.flyte.context import RunConfig, SweepConfig

env = flyte.TaskEnvironment(name="context")

RUN_VALUES = {
    "project": "p",
    "entity": "team",
    "host": "https://w.example",
    "id": "run-1",
    "name": "a name",
    "tags": ["a", "b"],
    "config": {"lr": 0.1, "deep": {"n": [1, None, True]}},
    "mode": "offline",
    "group": "g",
    "run_mode": "shared",
    "rank_scope": "worker",
    "download_logs": True,
}
SWEEP_VALUES = {
    "method": "bayes",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {"lr": {"min": 1e-5, "max": 1e-2}},
    "project": "p",
    "entity": "team",
    "prior_runs": ["r1"],
    "name": "search",
    "download_logs": True,
}
CASES = [(wandb_config, RunConfig, RUN_VALUES), (wandb_sweep_config, SweepConfig, SWEEP_VALUES)]
# What JSON would read as something else.
TREACHEROUS = ("123", "1e5", "true", "null", "[1]", '{"a": 1}', '"quoted"', "NaN", "", " 7 ", "ü")


@pytest.mark.parametrize(("make", "kind", "values"), CASES)
def test_roundtrip(make, kind, values):
    """Every argument comes back with its type, through texts only, and through pickle."""
    made = make(**values)
    assert all(type(text) is str for pair in made.items() for text in pair)
    for config in (kind.from_dict(json.loads(json.dumps(made.to_dict()))), pickle.loads(pickle.dumps(made))):
        assert made == config
        assert type(made) is type(config)
        assert values == {name: getattr(config, name) for name in values} == config.decoded()


@pytest.mark.parametrize(("make", "kind", "values"), CASES)
def test_an_omitted_argument_is_not_in_the_mapping(make, kind, values):
    made = make()
    assert {} == made
    assert not made
    defaults = {"download_logs": False, "run_mode": "auto", "rank_scope": "global"}
    assert {name: defaults.get(name) for name in values} == {name: getattr(made, name) for name in values}
    assert made.kwargs is None


@pytest.mark.parametrize(("make", "kind", "values"), CASES)
def test_attributes_can_be_set(make, kind, values):
    made = make(**dict.fromkeys(values, None))
    for name, value in values.items():
        setattr(made, name, value)
    assert make(**values) == made
    for name in values:
        setattr(made, name, None)
    assert {} == made


def test_a_context_of_the_plugin_is_read():
    """It has the arguments without a parameter of their own below one key."""
    context = {"wandb_run_mode": "auto", "wandb_kwargs": '{"notes": "123", "save_code": false}'}
    config = RunConfig.from_dict(context)
    assert {"run_mode": "auto", "notes": "123", "save_code": False} == config.decoded()
    assert {"notes": "123", "save_code": False} == config.kwargs
    sweep = SweepConfig.from_dict({"wandb_sweep_kwargs": '{"early_terminate": {"type": "hyperband"}}'})
    assert {"early_terminate": {"type": "hyperband"}} == sweep.to_sweep_config()


@pytest.mark.parametrize("text", TREACHEROUS)
@pytest.mark.parametrize("name", ["project", "entity", "id", "name", "group", "mode", "host", "notes", "job_type"])
def test_a_text_stays_a_text(name, text):
    """Defect (i) of the plugin: a run of the name "123" had an integer as its name."""
    made = wandb_config(**{name: text})
    assert text == made[f"wandb_{name}"]
    assert text == getattr(RunConfig.from_dict(dict(made)), name)


@pytest.mark.parametrize("text", TREACHEROUS)
def test_a_text_stays_a_text_in_other_arguments(text):
    made = RunConfig.from_dict(dict(wandb_config(any_other=text)))
    assert text == made.any_other
    assert {"any_other": text} == made.kwargs


@pytest.mark.parametrize("value", [5, True, 0.5, [1, "2"], {"a": None}])
def test_other_values_have_their_type(value):
    assert value == RunConfig.from_dict(dict(wandb_config(other=value))).other


def test_the_mapping_has_the_methods_of_a_dict():
    """As `custom_context` needs them, and as code for the plugin uses them."""
    made = wandb_config(project="p", tags=["t"])
    assert ["wandb_project", "wandb_tags"] == list(made) == list(made.keys())
    assert ("p", '["t"]') == (made["wandb_project"], made.get("wandb_tags"))
    assert {"wandb_project": "p", "wandb_tags": '["t"]'} == {**made} == dict(made.items())
    assert "wandb_project" in made
    assert 2 == len(made)
    assert made.get("wandb_entity", "none") == "none"
    with pytest.raises(KeyError):
        made["wandb_entity"]
    with pytest.raises(AttributeError, match="projekt"):
        _ = made.projekt
    assert {"a": "b", **made} == {"a": "b", "wandb_project": "p", "wandb_tags": '["t"]'}


@pytest.mark.parametrize("value", [object(), {"a": object()}, {1, 2}, float, b"x"])
def test_a_value_that_json_cannot_hold_is_an_error_at_once(value):
    with pytest.raises(ValueError, match="config must be JSON-serializable"):
        wandb_config(config=value)


def test_a_text_of_another_type_is_an_error_at_once():
    with pytest.raises(ConfigurationError, match="project must be text, got 5"):
        wandb_config(project=5)


@pytest.mark.parametrize("values", [{"run_mode": "old"}, {"rank_scope": "node"}])
@pytest.mark.parametrize("make", [wandb_config, run_config])
def test_an_unknown_mode_is_an_error_at_once(make, values):
    ((name, value),) = values.items()
    with pytest.raises(ConfigurationError, match=f"{name} must be one of .*, got '{value}'"):
        make(**values)


@pytest.mark.parametrize("values", [{"api_key": "k"}, {"settings": {"api_key": "k"}}])
def test_a_credential_is_refused(values):
    """Flyte's UI shows the context."""
    with pytest.raises(ConfigurationError, match="api_key must not be in a context") as caught:
        wandb_config(**values)
    assert "'k'" not in str(caught.value)


def test_the_neutral_name_has_the_arguments_of_start_logging():
    """`config` and `mode` mean something else to `start_logging` than to `wandb.init`."""
    made = run_config(project="p", backend=["csv", "mlflow"], config={"csv": {}}, mode="offline")
    assert {"project": "p", "backend": ["csv", "mlflow"], "backend_config": {"csv": {}}, "start_mode": "offline"} == (
        made.decoded()
    )


def test_outside_of_tasks_there_is_no_context():
    assert (None, None) == (get_wandb_context(), get_wandb_sweep_context())
    with wandb_config(project="p") as config:
        assert "p" == config.project
        assert get_wandb_context() is None


def test_a_run_and_a_sweep_share_a_context():
    """The keys of one are not those of the other."""
    context = {**wandb_config(project="p", tags=["t"]), **wandb_sweep_config(project="q", method="grid"), "x": "y"}

    def read():
        return get_wandb_context(), get_wandb_sweep_context()

    run, sweep = in_task(read, context=context)
    assert {"project": "p", "tags": ["t"]} == run.decoded()
    assert {"project": "q", "method": "grid"} == sweep.decoded()


def test_a_context_with_a_sweep_only():
    """Code like `get_wandb_context().project` finds no value, instead of no object."""
    run = in_task(get_wandb_context, context=wandb_sweep_config(project="q"))
    assert ({}, None, "auto") == (run, run.project, run.run_mode)
    assert in_task(get_wandb_context, context={"x": "wandb_"}) is None


@env.task
def changing() -> list[str]:
    config = get_wandb_context()
    config["wandb_name"] = "set"
    config.update(iter([("wandb_group", "g")]), wandb_notes="n")
    popped = [config.pop("wandb_project"), config.pop("wandb_project", "none"), str(config.pop("wandb_project"))]
    del config["wandb_entity"]
    with pytest.raises(KeyError):
        del config["wandb_entity"]
    assert {"name": "set", "group": "g", "notes": "n"} == config.decoded() == get_wandb_context().decoded()
    return [*popped, name_of_child()]


@env.task
def name_of_child() -> str:
    return f"{get_wandb_context().name} {get_wandb_context().project}"


@pytest.mark.parametrize("kind", [dict, RunConfig.from_dict])
def test_a_key_that_a_task_changes_is_changed_for_its_children(kind):
    """Also where the context is a config, as `custom_context=wandb_config(...)` makes it."""
    context = kind(wandb_config(project="p", entity="team"))
    assert ["p", "none", "None", "set None"] == in_task(changing.func, context=context)


def test_outside_of_tasks_only_the_config_changes():
    config = wandb_config(project="p", entity="team")
    config["wandb_name"] = "set"
    assert "p" == config.pop("wandb_project")
    del config["wandb_entity"]
    assert {"wandb_name": "set"} == config


def test_the_sweep_config_of_wandb_has_no_key_of_ours():
    made = wandb_sweep_config(**SWEEP_VALUES, early_terminate={"type": "hyperband"})
    expected = {name: SWEEP_VALUES[name] for name in ("method", "metric", "parameters", "name")}
    assert {**expected, "early_terminate": {"type": "hyperband"}} == made.to_sweep_config()


@env.task
def project_of_child() -> str:
    context = get_wandb_context()
    return f"{context.project} {context.entity} {context.tags}"


@env.task
def parent_with_blocks() -> list[str]:
    with wandb_config(project="inner", tags=["x"]):
        with wandb_config(project="innermost"):
            innermost = project_of_child()
        inner = project_of_child()
    return [innermost, inner, project_of_child()]


def test_a_block_gives_its_arguments_to_child_tasks_and_restores_the_others():
    found = run_task(parent_with_blocks, context=wandb_config(project="outer", entity="team"))
    assert ["innermost team ['x']", "inner team ['x']", "outer team None"] == found


@env.task
def parent_that_fails_in_a_block() -> str:
    try:
        with wandb_config(project="inner"):
            raise KeyError("x")
    except KeyError:
        return project_of_child()


def test_a_block_that_raises_restores_the_context():
    assert "outer None None" == run_task(parent_that_fails_in_a_block, context=wandb_config(project="outer"))


def test_one_config_may_be_entered_twice():
    config = wandb_config(project="p")

    def nested():
        with config, config:
            pass
        return get_wandb_context()

    assert in_task(nested) is None
