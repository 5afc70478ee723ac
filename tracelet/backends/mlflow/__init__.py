"""MLflow."""

from tracelet.backends.mlflow.adapter import MlflowBackend, MlflowConfig

__all__ = ["MlflowBackend", "MlflowConfig"]
