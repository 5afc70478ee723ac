"""The API of ezpz's `ezpz.tracker`, over tracelet's runs: `from tracelet.compat.ezpz import setup_tracker`."""

from tracelet.compat.ezpz.base import TrackerBackend
from tracelet.compat.ezpz.tracker import NullTracker, Tracker, register_backend, setup_tracker
from tracelet.compat.ezpz.vendors import CSVBackend, MLflowBackend, WandbBackend

__all__ = [
    "CSVBackend",
    "MLflowBackend",
    "NullTracker",
    "Tracker",
    "TrackerBackend",
    "WandbBackend",
    "register_backend",
    "setup_tracker",
]
