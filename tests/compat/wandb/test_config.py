"""`run.config`: access, updates, files, filters, and what arrives."""

import argparse
import dataclasses

import pytest

import tracelet.compat.wandb as wandb
from tracelet.compat.wandb.errors import ConfigError
from tracelet.records import Params


@pytest.fixture
def config():
    return wandb.Config()


def test_attributes_and_items_are_the_same(config):
    config.lr = 0.1
    config["layers"] = [1, 2]
    assert (0.1, [1, 2], 0.1) == (config["lr"], config.layers, config.get("lr"))
    assert (None, 3) == (config.get("absent"), config.get("absent", 3))
    assert "lr" in config
    assert "absent" not in config
    assert (["lr", "layers"], [0.1, [1, 2]]) == (config.keys(), config.values())
    assert [("lr", 0.1), ("layers", [1, 2])] == config.items()
    assert (["lr", "layers"], 2, True) == (list(config), len(config), bool(config))
    assert {"lr": 0.1, "layers": [1, 2]} == config.as_dict() == dict(config)
    del config.lr
    del config["layers"]
    assert not config
    with pytest.raises(AttributeError, match="absent"):
        config.absent  # noqa: B018
    with pytest.raises(KeyError):
        config["absent"]


def test_a_value_changes_only_on_demand(config):
    config.update({"lr": 0.1, "same": 1})
    config.lr = 0.1
    for change in (
        lambda: config.update({"new": 1, "lr": 0.2}),
        lambda: setattr(config, "lr", 0.2),
        lambda: config.__setitem__("lr", 2),
    ):
        with pytest.raises(ConfigError, match="allow_val_change=True"):
            change()
    assert {"lr": 0.1, "same": 1} == config.as_dict()
    config.update({"lr": 0.2}, allow_val_change=True)
    assert 0.2 == config.lr


def test_defaults_keep_what_is_there(config):
    config.a = 1
    config.setdefaults({"a": 2, "b": 3})
    assert {"a": 1, "b": 3} == config.as_dict()


def test_locked_values_ignore_updates(config):
    config.update_locked({"a": 1}, "sweep")
    config.update({"a": 2, "b": 3})
    config.a = 4
    assert {"a": 1, "b": 3} == config.as_dict()


@dataclasses.dataclass
class Options:
    lr: float = 0.1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {}),
        ({}, {}),
        ({"a": {"b": (1, 2)}, 3: "x"}, {"a": {"b": [1, 2]}, "3": "x"}),
        (argparse.Namespace(lr=0.1, name=None), {"lr": 0.1, "name": None}),
        (Options(), {"lr": 0.1}),
        ({"--dashes": 1}, {"dashes": 1}),
    ],
)
def test_what_config_can_be(given, expected):
    with wandb.init(config=given) as run:
        assert expected == run.config.as_dict()


@pytest.mark.parametrize("given", [3, [1], ("a", "b")])
def test_what_config_cannot_be(given):
    with pytest.raises(TypeError, match="config must be a dict"):
        wandb.init(config=given)
    assert wandb.run is None


def test_a_media_object_is_no_value(config):
    with pytest.raises(TypeError, match="media"):
        config.image = wandb.Html("x")


def test_a_file_and_the_default_file(tmp_path):
    (tmp_path / "config-defaults.yaml").write_text("lr:\n  desc: the rate\n  value: 0.5\nepochs:\n  value: 3\n")
    (tmp_path / "own.yaml").write_text("wandb_version: 1\nname: {value: x}\nplain: [1, 2]\n")
    with wandb.init(config=str(tmp_path / "own.yaml")) as run:
        assert {"lr": 0.5, "epochs": 3, "name": "x", "plain": [1, 2]} == run.config.as_dict()
    with pytest.raises(wandb.Error, match=r"absent\.yaml"):
        wandb.init(config="absent.yaml")


def test_keys_to_include_or_exclude():
    values = {"a": 1, "b": 2, "c": 3}
    with wandb.init(config=values, config_include_keys=["a", "c"]) as run:
        assert {"a": 1, "c": 3} == run.config.as_dict()
    with wandb.init(config=values, config_exclude_keys=["a"]) as run:
        assert {"b": 2, "c": 3} == run.config.as_dict()
    with pytest.raises(wandb.Error, match="exclude each other"):
        wandb.init(config=values, config_include_keys=["a"], config_exclude_keys=["b"])


def test_what_arrives(journal):
    run = wandb.init(config={"model": {"layers": 2, "sizes": [1, 2]}, "lr": 0.1})
    run.config.added = True
    run.config = {"late": "x"}
    found = [one.values for one in journal(run, Params)]
    assert [{"model.layers": 2, "model.sizes": [1, 2], "lr": 0.1}, {"added": True}, {"late": "x"}] == found


def test_the_static_copy():
    run = wandb.init(config={"a": 1})
    copy = run.config_static
    assert (1, 1, ["a"]) == (copy.a, copy["a"], copy.keys())
    with pytest.raises(AttributeError, match="cannot be changed"):
        copy.a = 2
