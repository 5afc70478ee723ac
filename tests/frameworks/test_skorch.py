"""skorch's TensorBoard callback, as it is and with a method of one's own."""

import importlib

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def skorch():
    importlib.import_module("skorch.callbacks")
    return importlib.import_module("skorch")


@pytest.mark.parametrize("library", ["torch.utils.tensorboard", "tensorboardX"])
def test_a_fit_is_carried_whole(skorch, library, tmp_path, carried):
    """Losses and durations of each epoch; the graph and a histogram that a subclass adds."""
    import torch

    class More(skorch.callbacks.TensorBoard):
        def add_graph(self, net, batch):
            if self.first_batch_:
                self.writer.add_graph(net.module_, batch)

        def on_batch_end(self, net, batch, **kwargs):
            self.add_graph(net, torch.as_tensor(batch[0]))

        def on_epoch_end(self, net, **kwargs):
            self.writer.add_histogram("weights", net.module_[0].weight, len(net.history))
            super().on_epoch_end(net, **kwargs)

    writer = importlib.import_module(library).SummaryWriter(str(tmp_path / "logs"))
    net = skorch.NeuralNetRegressor(
        torch.nn.Sequential(torch.nn.Linear(2, 1)), max_epochs=3, lr=0.01, callbacks=[More(writer)], verbose=0
    )
    rows = np.linspace(0, 1, 20, dtype=np.float32)
    net.fit(np.stack([rows, -rows], axis=1), rows[:, None])

    series = carried(tmp_path / "logs", tmp_path / "logs")
    assert {"dur", "Loss/train_loss", "Loss/valid_loss", "weights", "graph"} == set(series)
    assert 3 == len(series["Loss/train_loss"]) == len(series["weights"])
