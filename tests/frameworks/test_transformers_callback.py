"""TraceletCallback: a Trainer that reports to nobody else."""

import importlib

import pytest
from frameworks.tiny_bert import model, trainer

import tracelet
from tracelet.backends.memory import MemoryBackend
from tracelet.records import Scalar, Text

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def callback_class():
    return importlib.import_module("tracelet.integrations.transformers").TraceletCallback


def points(memory):
    found = {}
    for one in memory.of(Scalar):
        found.setdefault(one.tag, []).append(one.step)
    return found


def test_a_training_and_its_evaluation_are_one_run(callback_class, tmp_path, memory, params):
    """Names and steps of the Trainer's TensorBoard; parameters keep their types, the model's lie below `model`."""
    training = trainer(
        tmp_path / "out", callbacks=[callback_class(project="words", backend=memory)], run_name="tiny", save_steps=7
    )
    training.train()
    training.evaluate()
    experiment = tracelet.get_active_experiment()
    assert ("tiny", "words") == (experiment.name, experiment.project)

    found = params()
    assert [1, 2, 3, 4] == points(memory)["train/loss"]
    assert [2, 4, 4] == points(memory)["eval/accuracy"] == points(memory)["eval/loss"]
    kept = ("learning_rate", "per_device_train_batch_size", "bf16", "run_name", "model.hidden_size")
    assert repr([5e-05, 4, False, "tiny", 8]) == repr([found[name] for name in kept])
    assert "finished" == memory.status


def test_it_says_what_tensorboard_would_have(callback_class, tmp_path):
    """The same training twice, with the one and with the other: the same series and steps, and nearly all values."""
    told = []
    for callbacks, report_to in (([callback_class], "none"), ([], "tensorboard")):
        memory = MemoryBackend()
        with tracelet.start_logging(backend=memory):
            trainer(tmp_path / report_to, callbacks=callbacks, report_to=report_to).train()
        scalars = [one for one in memory.of(Scalar) if not one.tag.endswith(("runtime", "per_second"))]
        told.append([(one.tag, one.step, one.value) for one in scalars])
    assert told[0]
    assert told[0] == told[1]


def test_a_run_of_the_program_stays_the_programs(callback_class, tmp_path, memory):
    with tracelet.start_logging(backend=memory) as experiment:
        trainer(tmp_path / "out", callbacks=[callback_class()]).train()
        assert experiment is tracelet.get_active_experiment()
    assert [1, 2, 3, 4] == points(memory)["train/loss"]


def test_a_training_after_one_that_failed_is_another_run(callback_class, tmp_path):
    """The Trainer tells its callbacks nothing of an exception; still the next training does not join its run."""
    memories = [MemoryBackend(), MemoryBackend()]
    failing = trainer(tmp_path / "out", callbacks=[callback_class(backend=memories[0])])
    failing.compute_metrics = lambda guesses: 1 / 0
    with pytest.raises(ZeroDivisionError):
        failing.train()
    trainer(tmp_path / "out", callbacks=[callback_class(backend=memories[1])]).train()
    tracelet.stop_logging()

    assert [[1, 2], [1, 2, 3, 4]] == [points(memory)["train/loss"] for memory in memories]
    assert memories[0].run.run_id != memories[1].run.run_id


def test_each_trial_of_a_search_is_a_run(callback_class, tmp_path):
    """By the name that the search gives it."""
    transformers = importlib.import_module("transformers")
    state = transformers.TrainerState(is_world_process_zero=True, is_hyper_param_search=True)
    args = transformers.TrainingArguments(output_dir=str(tmp_path / "out"), report_to="none", use_cpu=True)
    callback, runs = callback_class(mode="offline"), []
    for number in range(2):
        state.trial_name = f"trial-{number}"
        callback.on_train_begin(args, state, None, model=model())
        runs.append(tracelet.get_active_experiment())
    assert ["trial-0", "trial-1"] == [run.name for run in runs]
    assert runs[0].run_id != runs[1].run_id


def test_what_is_no_number_is_a_text_or_left_out(callback_class, tmp_path, memory, caplog):
    """A Trainer of one's own may log anything; nothing of it ends the training."""
    with tracelet.start_logging(backend=memory):
        training = trainer(tmp_path / "out", callbacks=[callback_class()])
        for _ in range(2):
            training.log({"loss": 0.5, "words": "some", "rows": [1, 2], "eval_parts": {"a": 1}})

    assert [("train/words", "some")] * 2 == [(one.tag, one.text) for one in memory.of(Text)]
    assert {"train/loss", "eval/parts/a"} == set(points(memory)) - {"train/epoch"}


def test_other_processes_log_nothing(callback_class, tmp_path):
    transformers = importlib.import_module("transformers")
    state = transformers.TrainerState(is_world_process_zero=False)
    args = transformers.TrainingArguments(output_dir=str(tmp_path / "out"), report_to="none", use_cpu=True)
    callback = callback_class(mode="offline")
    callback.on_train_begin(args, state, None, model=model())
    callback.on_log(args, state, None, logs={"loss": 0.5})
    assert tracelet.get_active_experiment() is None
