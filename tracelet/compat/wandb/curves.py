"""Compute the points of ROC and precision-recall curves, as DataFrames."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from tracelet.compat.wandb.base import to_array
from tracelet.compat.wandb.errors import Error

_DIGITS = 3


def roc_points(y_true: Any, y_probas: Any, labels: Any, classes_to_plot: Any, max_rows: int) -> Any:
    """Return the columns class, fpr and tpr."""
    metrics = _module("sklearn.metrics", "roc_curve")

    def curve(actual: Any, scores: Any, positive: Any) -> dict[str, Any]:
        false_rate, true_rate, _ = metrics.roc_curve(actual, scores, pos_label=positive)
        return {"fpr": false_rate, "tpr": true_rate}

    return _points(y_true, y_probas, labels, classes_to_plot, max_rows, "roc_curve", curve)


def pr_points(y_true: Any, y_probas: Any, labels: Any, classes_to_plot: Any, size: int, max_rows: int) -> Any:
    """Return the columns class, precision and recall; `size` recalls from 1 to 0."""
    metrics = _module("sklearn.metrics", "pr_curve")
    import numpy as np

    recalls = np.linspace(0, 1, size)[::-1]

    def curve(actual: Any, scores: Any, positive: Any) -> dict[str, Any]:
        precision, recall, _ = metrics.precision_recall_curve(actual, scores, pos_label=positive)
        best = np.maximum.accumulate(precision)[::-1]  # the best precision at this recall or a higher one
        return {"precision": best[np.searchsorted(recall[::-1], recalls)], "recall": recalls}

    return _points(y_true, y_probas, labels, classes_to_plot, max_rows, "pr_curve", curve)


def _points(
    y_true: Any,
    y_probas: Any,
    labels: Any,
    classes_to_plot: Any,
    max_rows: int,
    chart: str,
    curve: Callable[[Any, Any, Any], dict[str, Any]],
) -> Any:
    import numpy as np

    pandas = _module("pandas", chart)
    if y_true is None or y_probas is None:
        raise ValueError(f"{chart} needs y_true and y_probas")
    actual, scores = to_array(y_true), to_array(y_probas)
    classes = np.unique(actual)
    by_label: dict[Any, dict[str, Any]] = {}
    for position, label in enumerate(classes):
        if classes_to_plot is None or label in list(classes_to_plot):
            name = labels[label] if labels is not None and isinstance(label, int | np.integer) else label
            by_label[name] = curve(actual, scores[:, position], label)
    frames = [pandas.DataFrame({"class": label, **columns}) for label, columns in by_label.items()]
    frame = pandas.concat(frames, ignore_index=True).round(_DIGITS)
    return frame if len(frame) <= max_rows else _sample(frame, max_rows, chart)


def _sample(frame: Any, rows: int, chart: str) -> Any:
    """Choose rows at random with wandb's seed, as many of each class as its share."""
    utils = _module("sklearn.utils", chart)
    chosen = utils.resample(frame, replace=False, n_samples=rows, random_state=42, stratify=frame["class"])
    return chosen.sort_values([*(column for column in frame.columns if column != "class"), "class"])


def _module(name: str, chart: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        package = "scikit-learn" if name.startswith("sklearn") else name
        raise Error(f"wandb.plot.{chart} needs {package}. Run: pip install {package}") from error
