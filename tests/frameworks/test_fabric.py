"""Lightning Fabric: a loop of one's own, with its TensorBoardLogger."""

import importlib

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=["lightning.fabric", "lightning_fabric"])
def fabric_package(request):
    return importlib.import_module(request.param)


def test_a_loop_is_carried_whole(fabric_package, tmp_path, carried, params):
    """fabric.log, log_dict, a dict of losses, and the hyper-parameters of the logger."""
    import torch

    loggers = importlib.import_module(f"{fabric_package.__name__}.loggers")
    logger = loggers.TensorBoardLogger(root_dir=tmp_path / "logs", name="fabric")
    fabric = fabric_package.Fabric(accelerator="cpu", devices=1, loggers=logger)
    fabric.launch()
    logger.log_hyperparams({"lr": 0.1, "layers": 2, "deep": {"on": True}})
    model = torch.nn.Linear(2, 1)
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for step in range(4):
        loss = model(torch.ones(3, 2)).square().mean()
        fabric.backward(loss)
        optimizer.step()
        fabric.log("loss", loss, step)
        fabric.log_dict({"double": loss.double(), "count": step, "parts": {"a": 0.1 * step}}, step)
    logger.finalize("success")

    members = {"parts_a": "parts/a"}
    series = carried(tmp_path / "logs", logger.log_dir, members)
    assert {"hp_metric", "loss", "double", "count", "parts/a"} == set(series)
    assert [0, 1, 2, 3] == [step for step, *_ in series["loss"]]
    assert repr({"lr": 0.1, "layers": 2, "deep/on": True}) == repr(params())
