"""Stable-Baselines3 with `tensorboard_log=`, and what its callbacks may record besides numbers."""

import importlib

import numpy as np
import pytest

import tracelet

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def sb3():
    return importlib.import_module("stable_baselines3")


def walk():
    """An environment of one number that is to stay near zero, for four steps."""
    import gymnasium

    class Walk(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-10.0, 10.0, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.place, self.steps = 0.0, 0
            return np.array([self.place], np.float32), {}

        def step(self, action):
            self.place += 1.0 if action else -1.0
            self.steps += 1
            return np.array([self.place], np.float32), -abs(self.place), self.steps == 4, False, {}

    return Walk()


def ppo(sb3, folder):
    return sb3.PPO(
        "MlpPolicy",
        walk(),
        n_steps=16,
        batch_size=8,
        n_epochs=1,
        policy_kwargs={"net_arch": [4]},
        tensorboard_log=str(folder),
        device="cpu",
        seed=0,
    )


def test_two_learns_are_carried_whole(sb3, tmp_path, carried):
    """PPO_1 is the root, PPO_2 stands beside it."""
    model = ppo(sb3, tmp_path / "logs")
    model.learn(48)
    model.learn(32)

    series = carried(tmp_path / "logs", tmp_path / "logs" / "PPO_1")
    assert [16, 32, 48] == [step for step, *_ in series["train/loss"] + series["time/fps"]][-3:]
    assert {"rollout/ep_rew_mean", "train/value_loss", "time/fps", "PPO_2/rollout/ep_rew_mean"} < set(series)


def test_what_a_callback_records_is_carried(sb3, tmp_path, carried, params):
    """Hyper-parameters (written past the writer's methods, by a function bound before us), a picture, a text, a
    histogram."""
    import torch

    logger = importlib.import_module("stable_baselines3.common.logger")
    callbacks = importlib.import_module("stable_baselines3.common.callbacks")

    class Told(callbacks.BaseCallback):
        def _on_training_start(self):
            values = {"algorithm": "PPO", "learning rate": 0.1, "n_steps": 16, "deep": False}
            self.logger.record(
                "hparams", logger.HParam(values, {"train/value_loss": 0.0}), exclude=("stdout", "log", "json", "csv")
            )

        def _on_step(self):
            return True

        def _on_rollout_end(self):
            hidden = ("stdout", "log", "json", "csv")
            self.logger.record("told/picture", logger.Image(torch.rand(3, 4, 4), "CHW"), exclude=hidden)
            self.logger.record("told/words", "some words", exclude=hidden)
            self.logger.record("told/actions", torch.arange(9.0), exclude=hidden)

    ppo(sb3, tmp_path / "logs").learn(32, callback=Told())

    series = carried(tmp_path / "logs", tmp_path / "logs" / "PPO_1")
    assert {"told/picture", "told/words", "told/actions"} < set(series)
    expected = {"algorithm": "PPO", "learning rate": 0.1, "n_steps": 16, "deep": False}
    assert repr(sorted(expected.items())) == repr(sorted(params().items()))


def test_what_it_took_by_name_is_put_back(sb3, memory):
    """The end of a run leaves the package as it was."""
    logger = importlib.import_module("stable_baselines3.common.logger")
    before = logger.hparams
    with tracelet.start_logging(backend=memory):
        assert before is not logger.hparams
    assert before is logger.hparams
