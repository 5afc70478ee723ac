"""Hugging Face Accelerate with log_with="tensorboard"."""

import importlib

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def accelerate():
    """The package, which keeps its state in classes: emptied afterwards."""
    package = importlib.import_module("accelerate")
    yield package
    importlib.import_module("accelerate.state").AcceleratorState._reset_state(True)


def train(accelerator, steps=4):
    """Descends to zero, and logs as Accelerate's users do."""
    import torch

    model = torch.nn.Linear(2, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for step in range(steps):
        loss = model(torch.ones(3, 2)).square().mean()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        accelerator.log({"loss": loss.item(), "phase": "early", "parts": {"a": 0.1 * step, "b": 1.0}}, step=step)


CONFIG = {"lr": 0.1, "layers": 3, "name": "line", "bias": True}


def test_a_loop_is_carried_whole(accelerate, tmp_path, carried, params):
    """Numbers, words, dicts, pictures, and the configuration of the trackers."""
    import torch

    accelerator = accelerate.Accelerator(cpu=True, log_with="tensorboard", project_dir=str(tmp_path / "logs"))
    accelerator.init_trackers("line", config=CONFIG)
    train(accelerator)
    accelerator.get_tracker("tensorboard").log_images({"seen": torch.rand(2, 3, 4, 4)}, step=4)
    accelerator.end_training()

    members = {"parts_a": "parts/a", "parts_b": "parts/b"}
    series = carried(tmp_path / "logs", tmp_path / "logs" / "line", members)
    assert {"loss", "phase", "parts/a", "parts/b", "seen"} == set(series)
    assert [0, 1, 2, 3] == [step for step, *_ in series["loss"]]
    assert repr(sorted(CONFIG.items())) == repr(sorted(params().items()))
