"""Write TensorBoard's event files, for programs that have no SummaryWriter."""

from tracelet.backends.tensorboard.adapter import TensorBoardBackend, TensorBoardConfig

__all__ = ["TensorBoardBackend", "TensorBoardConfig"]
