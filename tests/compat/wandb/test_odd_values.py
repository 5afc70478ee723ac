"""Values that change after the call, that contain themselves, or whose own methods raise."""

import argparse

import numpy as np
import pytest
import torch

import tracelet.compat.wandb as wandb
from tracelet.records import Params, Text
from tracelet.runs.summary import summarise


class Broken:
    """An object whose methods raise, as a tensor without data does."""

    def item(self):
        raise RuntimeError("no data")

    def __repr__(self):
        raise RuntimeError("no text")


def itself():
    value = {"x": 1.0}
    value["again"] = value
    return value


def test_a_later_change_of_an_array_has_no_effect(points):
    """The row waits for its end, and the summary for the end of the run."""
    loss, nested = torch.tensor(1.0), {"acc": np.array([0.5])}
    with wandb.init() as run:
        run.log({"loss": loss, "val": nested}, commit=False)
        loss.add_(5)
        nested["acc"][0] = 9
        run.log({})
        run.summary["best"] = loss
        loss.add_(5)
        assert (1.0, 0.5, 6.0) == (run.summary["loss"], run.summary["val"]["acc"], run.summary["best"])
    assert {("loss", 0, 1.0), ("val.acc", 0, 0.5)} == set(points(run))


def test_a_figure_is_drawn_at_the_call():
    """Programs clear the figure for the next one."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.figure(figsize=(1, 1), dpi=50)
    with wandb.init() as run:
        run.log({"plot": plt}, commit=False)
        plt.close("all")
        run.log({"loss": 1.0})
        assert (50, 50) == (run.summary["plot"]["width"], run.summary["plot"]["height"])
    plt.close("all")


def test_the_summary_keeps_no_graph():
    """A tensor with its graph would hold the memory of a whole forward pass."""
    loss = (torch.ones(3, requires_grad=True) * 2).sum()
    with wandb.init() as run:
        run.define_metric("loss", summary="max")
        for commit in (False, True):
            run.log({"loss": loss, "other": loss}, commit=commit)
        assert not any(isinstance(value, torch.Tensor) for value in run.summary._values.values())
        assert not any(isinstance(value, torch.Tensor) for value in run.summary._last.values())
        assert 6.0 == run.summary["other"]


@pytest.mark.parametrize("use", ["log", "nested", "commit", "summary"])
def test_a_value_inside_itself_does_not_stop_the_run(points, use):
    """It is refused as in wandb, and nothing of it is logged."""
    calls = {
        "log": lambda: run.log(itself()),
        "nested": lambda: run.log({"a": [1], "b": itself()}),
        "commit": lambda: run.log(itself(), commit=False),
        "summary": lambda: run.summary.update({"a": itself()}),
    }
    with wandb.init() as run:
        with pytest.raises(RecursionError, match="contains itself"):
            calls[use]()
        run.log({"loss": 1.0})
    assert [("loss", 0, 1.0)] == points(run)
    assert "finished" == summarise(run._experiment.folder).status


def test_an_object_whose_methods_raise_is_the_name_of_its_class(journal):
    with wandb.init() as run:
        run.log({"broken": Broken(), "empty": torch.empty((), device="meta"), "loss": 1.0})
        run.summary["broken"] = Broken()
        assert ("Broken", 1.0) == (run.summary["broken"], run.summary["loss"])
    assert {"broken": "Broken", "empty": "tensor(..., device='meta', size=())"} == {
        text.tag: text.text for text in journal(run, Text)
    }


@pytest.mark.parametrize("commit", [None, False])
def test_an_empty_key_costs_no_other(points, commit):
    """wandb accepts the key, and has no chart for it."""
    with wandb.init(config={"": 1, "lr": 0.1}) as run:
        run.log({"": 2.0, "loss": 1.0}, commit=commit)
    assert [("loss", 0, 1.0)] == points(run)


def test_nan_in_the_config_is_no_change(journal):
    values = argparse.Namespace(clip=float("nan"), nested={"a": float("nan")})
    with wandb.init(config=values) as run:
        run.config.update(values)
        with pytest.raises(wandb.Error, match="allow_val_change"):
            run.config.clip = 1.0
    assert {"clip", "nested.a"} == {name for record in journal(run, Params) for name in record.values}


def test_a_config_that_is_refused_leaves_no_run():
    """The program has no object to finish it with."""
    with pytest.raises(TypeError, match="media object"):
        wandb.init(config={"picture": wandb.Html("x")})
    assert wandb.run is None
    with wandb.init(config={"lr": 1}) as run:
        assert 1 == run.config.lr


def test_a_run_ends_also_if_its_last_values_cannot_be_logged(monkeypatch):
    run = wandb.init()
    monkeypatch.setattr(run._files, "save_changed", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        wandb.finish()
    assert wandb.run is None
    assert "finished" == summarise(run._experiment.folder).status


def test_save_takes_a_name_as_it_is(tmp_path, monkeypatch):
    """A name with brackets is no pattern with `glob=False`."""
    monkeypatch.chdir(tmp_path)
    for name in ("model[1].pt", "model1.pt"):
        (tmp_path / name).write_text("x")
    with wandb.init() as run:
        for save in (run.save, wandb.save):
            assert [f"{run.dir}/model[1].pt"] == save("model[1].pt", glob=False)
        assert [f"{run.dir}/model1.pt"] == run.save("model[1].pt")


def test_link_model_takes_the_names_of_wandb():
    with wandb.init() as run, pytest.raises(wandb.UnsupportedError, match="registry"):
        run.link_model(path="model.pt", registered_model_name="best", name="m", aliases=["a"])


def test_a_step_beyond_64_bits_is_refused(points):
    """As in wandb. The journal could not store it, nor the values of its batch."""
    with wandb.init() as run:
        run.log({"loss": 1.0})
        with pytest.raises(ValueError, match="64 bits"):
            run.log({"loss": 2.0}, step=2**70)
    assert [("loss", 0, 1.0)] == points(run)
