"""Write to the local store of Trackio, Hugging Face's tracker."""

from tracelet.backends.trackio.adapter import TrackioBackend, TrackioConfig

__all__ = ["TrackioBackend", "TrackioConfig"]
