"""Map each backend to the reader of the store that a program leaves in its working directory."""

from collections.abc import Callable
from pathlib import Path

from backends import aim_store, clearml_store, csv_store, mlflow_store, tensorboard_store, trackio_store, wandb_store
from backends.store_content import StoreContent

# With WANDB_DIR set to the folder, CLEARML_CACHE_DIR to its `clearml`, and TRACKIO_DIR to its `trackio`.
READERS: dict[str, Callable[[Path], StoreContent]] = {
    "csv": lambda folder: csv_store.stored(next(folder.glob("runs/*/*/csv"))),
    "tensorboard": lambda folder: tensorboard_store.stored(next(folder.glob("runs/*/*/tensorboard"))),
    "trackio": lambda folder: trackio_store.stored(folder / "trackio"),
    "wandb": wandb_store.stored,
    "mlflow": mlflow_store.stored,
    "clearml": lambda folder: clearml_store.read(folder / "clearml"),
    "aim": aim_store.stored,
}
