"""PyTorch Ignite's TensorboardLogger, with the handlers that come with it."""

import importlib

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def ignite():
    for name in ("engine", "metrics", "handlers.tensorboard_logger"):
        importlib.import_module(f"ignite.{name}")
    return importlib.import_module("ignite")


def test_an_engine_is_carried_whole(ignite, tmp_path, carried):
    """Outputs of each iteration, metrics of each epoch, the optimizer, weights and gradients as figures and as
    histograms."""
    import torch

    events, handlers = ignite.engine.Events, ignite.handlers.tensorboard_logger
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(engine, batch):
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    engine = ignite.engine.Engine(step)
    judge = ignite.engine.Engine(lambda engine, batch: (model(batch), torch.zeros(len(batch), 1)))
    ignite.metrics.MeanSquaredError().attach(judge, "mse")
    data = [torch.full((3, 2), float(number)) for number in range(4)]
    engine.add_event_handler(events.EPOCH_COMPLETED, lambda engine: judge.run(data))

    with handlers.TensorboardLogger(log_dir=str(tmp_path / "logs")) as logger:
        logger.attach_output_handler(
            engine, events.ITERATION_COMPLETED, tag="training", output_transform=lambda loss: {"loss": loss}
        )
        logger.attach_output_handler(
            judge,
            events.EPOCH_COMPLETED,
            tag="validation",
            metric_names=["mse"],
            global_step_transform=ignite.handlers.global_step_from_engine(engine),
        )
        logger.attach_opt_params_handler(engine, events.ITERATION_STARTED, optimizer=optimizer, param_name="lr")
        for handler in ("WeightsScalarHandler", "WeightsHistHandler", "GradsScalarHandler", "GradsHistHandler"):
            logger.attach(engine, getattr(handlers, handler)(model), events.ITERATION_COMPLETED(every=2))
        engine.run(data, max_epochs=2)

    series = carried(tmp_path / "logs", tmp_path / "logs")
    assert list(range(1, 9)) == [step for step, *_ in series["training/loss"]]
    assert [1, 2] == [step for step, *_ in series["validation/mse"]]
    assert {"lr/group_0", "weights_norm/weight", "weights/weight", "grads_norm/bias", "grads/bias"} < set(series)
    assert 4 == len(series["weights/weight"])
