"""Define `Experiment`, the object that `start_logging` returns."""

from tracelet.experiment.experiment import Experiment

__all__ = ["Experiment"]
