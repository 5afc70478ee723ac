"""TraceletLogger: the logger of a Trainer, or of Fabric, that writes to the active run or to one of its own."""

import importlib
import pickle

import pytest
from frameworks.test_lightning import line, trainer

import tracelet
from tracelet.backends.memory import MemoryBackend
from tracelet.records import Params, Scalar

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def lightning(request):
    return importlib.import_module(request.param)


@pytest.fixture
def logger_class():
    return importlib.import_module("tracelet.integrations.lightning").TraceletLogger


@pytest.fixture
def data():
    import torch

    return torch.utils.data.DataLoader(torch.arange(12.0).reshape(6, 2), batch_size=2)


@pytest.fixture
def model(lightning):
    """Without what TensorBoard's writer alone has."""
    made = line(lightning)
    made.on_validation_epoch_end = lambda: None
    return made


def steps(memory, tag):
    return [one.step for one in memory.of(Scalar) if one.tag == tag]


def test_a_training_and_its_test_are_one_run(lightning, logger_class, model, data, tmp_path, memory):
    """Names and steps are Lightning's, ints and bools stay what they are, the end is that of stop_logging."""
    logger = logger_class("line", project="lines", backend=memory)
    training = trainer(lightning, tmp_path, logger=logger)
    training.fit(model, data, data)
    training.test(model, data, verbose=False)
    experiment = tracelet.get_active_experiment()
    assert (experiment.name, experiment.project) == ("line", "lines")
    assert logger.experiment is experiment
    tracelet.stop_logging()

    assert list(range(6)) == steps(memory, "train/loss_step")
    assert [2, 5] == steps(memory, "val/accuracy") == steps(memory, "train/loss_epoch")
    assert [6] == steps(memory, "test/loss")
    assert repr({"lr": 0.1, "layers": 1, "name": "line", "bias": True}) == repr(dict(memory.of(Params)[0].values))
    assert "finished" == memory.status


def test_it_says_what_tensorboard_would_have(lightning, logger_class, model, data, tmp_path, memory):
    """Beside a TensorBoardLogger, every series of the Trainer is there twice with the same points."""
    tensorboard = lightning.loggers.TensorBoardLogger(tmp_path / "logs", default_hp_metric=False)
    loggers = [tensorboard, logger_class(prefix="ours")]
    with tracelet.start_logging(backend=memory):
        trainer(lightning, tmp_path, logger=loggers).fit(model, data, data)

    points = {}
    for one in memory.of(Scalar):
        points.setdefault(one.tag, []).append((one.value, one.step))
    theirs = {tag: said for tag, said in points.items() if not tag.startswith("ours-")}
    assert theirs
    assert theirs == {tag.removeprefix("ours-"): said for tag, said in points.items() if tag.startswith("ours-")}


def test_a_run_of_the_program_stays_the_programs(lightning, logger_class, model, data, tmp_path, memory, caplog):
    """It is used, and left open, also when the training fails; the logger's own arguments are not used, which is
    said."""
    experiment = tracelet.start_logging(backend=memory)
    logger = logger_class(project="elsewhere")
    model.on_validation_epoch_end = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trainer(lightning, tmp_path, logger=logger).fit(model, data, data)

    assert experiment is tracelet.get_active_experiment()
    assert experiment.run_id == logger.version
    assert memory.status is None


def test_a_training_that_fails_ends_its_run_so(lightning, logger_class, model, data, tmp_path, memory):
    model.on_validation_epoch_end = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trainer(lightning, tmp_path, logger=logger_class(backend=memory)).fit(model, data, data)

    assert tracelet.get_active_experiment() is None
    assert ("failed", 1) == (memory.status, memory.exit_code)
    assert [0, 1, 2] == steps(memory, "train/loss_step")


def test_a_training_that_is_interrupted_is_killed(lightning, logger_class, model, data, tmp_path, memory):
    """Lightning calls that failed as well."""

    def interrupt():
        raise KeyboardInterrupt

    model.on_validation_epoch_end = interrupt
    with pytest.raises(SystemExit):
        trainer(lightning, tmp_path, logger=logger_class(backend=memory)).fit(model, data, data)

    assert ("killed", 130) == (memory.status, memory.exit_code)


def test_two_loggers_are_two_runs_and_the_first_goes_on(lightning, logger_class, data, tmp_path):
    """All trainings first, then all tests: each test belongs to the run of its training."""
    memories = [MemoryBackend(), MemoryBackend()]
    trainings = []
    for memory in memories:
        model = line(lightning)
        model.on_validation_epoch_end = lambda: None
        training = trainer(lightning, tmp_path, logger=logger_class(backend=memory))
        training.fit(model, data, data)
        trainings.append((training, model))
    for training, model in trainings:
        training.test(model, data, verbose=False)
    tracelet.stop_logging()

    first, second = memories
    assert first.run.run_id != second.run.run_id
    assert first.run.resumed
    for memory in memories:
        assert list(range(6)) == steps(memory, "train/loss_step")
        assert [6] == steps(memory, "test/loss")


def test_checkpoints_lie_below_project_and_run(lightning, logger_class, model, data, tmp_path, memory):
    """`save_dir/name/version`, as for Lightning's own loggers."""
    logger = logger_class(project="lines", backend=memory, save_dir=tmp_path / "kept")
    training = lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=logger, enable_progress_bar=False, enable_model_summary=False
    )
    training.fit(model, data, data)

    (checkpoint,) = (tmp_path / "kept").rglob("*.ckpt")
    assert tmp_path / "kept" / "lines" / logger.version / "checkpoints" == checkpoint.parent


def test_other_ranks_log_nothing(lightning, logger_class, monkeypatch):
    """No run is begun, and what the program asks of `experiment` does nothing."""
    rank_zero = importlib.import_module("lightning_utilities.core.rank_zero")
    monkeypatch.setattr(rank_zero.rank_zero_only, "rank", 1)
    logger = logger_class(project="lines")
    logger.log_metrics({"loss": 0.1}, 1)
    logger.log_hyperparams({"lr": 0.1})
    logger.experiment.log_text("words", "some")
    logger.finalize("failed")
    assert tracelet.get_active_experiment() is None
    assert ("lines", None) == (logger.name, logger.version)


def test_it_is_a_logger_of_both_packages(lightning, logger_class):
    """Each takes only its own Logger class for one; made in either order."""
    assert isinstance(logger_class(), lightning.loggers.Logger)


def test_a_copy_for_another_process_begins_a_run_of_its_own(lightning, logger_class):
    """As Trainer(strategy="ddp_spawn") makes one; what it is to begin the run with goes along."""
    logger = logger_class("line", project="lines", mode="offline")
    first = logger.experiment.run_id
    copy = pickle.loads(pickle.dumps(logger))
    assert copy.version is None
    assert (copy.experiment.name, copy.experiment.project) == ("line", "lines")
    assert first != copy.version


def test_fabric_logs_to_it(logger_class, memory):
    fabric_package = importlib.import_module("lightning.fabric")
    with tracelet.start_logging(backend=memory):
        fabric = fabric_package.Fabric(accelerator="cpu", devices=1, loggers=logger_class())
        fabric.log_dict({"loss": 0.1, "parts": {"a": 0.2}}, 3)
        fabric.logger.log_hyperparams({"lr": 0.1, "deep": {"on": True}}, 0.5)

    points = [(one.tag, one.value, one.step) for one in memory.of(Scalar)]
    assert [("loss", 0.1, 3), ("parts/a", 0.2, 3), ("hp_metric", 0.5, None)] == points
    assert [{"lr": 0.1, "deep.on": True}] == [one.values for one in memory.of(Params)]
