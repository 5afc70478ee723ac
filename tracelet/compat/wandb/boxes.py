"""Define the annotations of images: classes, bounding boxes and masks."""

from __future__ import annotations

import io
import json
import numbers
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tracelet.capture.values import to_plain
from tracelet.compat.wandb.base import Entry, Media, Value, derives_from, to_array
from tracelet.records import Image as ImageRecord
from tracelet.records import Text

_CORNERS = ("minX", "maxX", "minY", "maxY")


class Classes(Value):
    """The classes of an image, as `{"id": ..., "name": ...}`."""

    _log_type = "classes"

    def __init__(self, class_set: Sequence[dict[str, Any]]) -> None:
        for item in class_set:
            assert "id" in item, f"a class needs an id, got {item}"
            assert "name" in item, f"a class needs a name, got {item}"
        self._class_set = class_set

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        yield Text(name, json.dumps(to_plain(list(self._class_set))), step, wall_time)

    def summary(self) -> dict[str, Any]:
        return {"_type": self._log_type, "class_set": list(self._class_set)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Classes) and list(self._class_set) == list(other._class_set)

    def __hash__(self) -> int:
        return hash(len(self._class_set))


class BoundingBoxes2D(Value):
    """One set of boxes on an image, such as predictions.

    Raises:
        TypeError: `box_data` is not a list, or a box has an invalid position, score, class or caption.
    """

    _log_type = "boxes2D"

    def __init__(self, val: dict[str, Any], key: str) -> None:
        _check_labels(val)
        boxes = val["box_data"]
        if not isinstance(boxes, list):
            raise TypeError(f"box_data must be a list of boxes, got a {type(boxes).__name__}")
        for box in boxes:
            _check_box(box)
        self._val: list[dict[str, Any]] = to_plain(boxes)
        self._key = key
        labels = val.get("class_labels")
        self._class_labels: dict[Any, str] = (
            _default_labels(box["class_id"] for box in boxes) if labels is None else labels
        )

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        yield Text(name, json.dumps(to_plain(self.layer())), step, wall_time)

    def layer(self) -> dict[str, Any]:
        """Return the boxes with their class labels."""
        return {"box_data": self._val, "class_labels": self._class_labels}


class ImageMask(Media):
    """One mask of an image: an integer class for each pixel.

    Raises:
        TypeError: `mask_data` is missing, not 2D, or has values outside 0 to 255.
    """

    _log_type = "mask"
    _folder = "images/mask"
    _extension = ".mask.png"

    def __init__(self, val: dict[str, Any], key: str) -> None:
        super().__init__()
        self._key = key
        self._val = dict(val)
        if "path" in val:
            self._read(os.fspath(val["path"]))
        else:
            self._encode()

    def _encode(self) -> None:
        import numpy as np
        from PIL import Image as PILImage

        if "mask_data" not in self._val:
            raise TypeError("a mask needs mask_data, a 2D array with the class of each pixel, or path")
        _check_labels(self._val)
        mask = to_array(self._val.pop("mask_data"))
        if mask.ndim != 2:
            raise TypeError(f"mask_data must be a 2D array, got the shape {mask.shape}")
        if not ((mask >= 0).all() and (mask <= 255).all()):
            raise TypeError("mask_data must have integers from 0 to 255")
        if "class_labels" not in self._val:
            self._val["class_labels"] = _default_labels(np.unique(mask).astype(int).tolist())
        out = io.BytesIO()
        PILImage.fromarray(mask.astype(np.uint8)).save(out, format="PNG")
        self._data = out.getvalue()

    @property
    def _class_labels(self) -> dict[Any, str]:
        labels: dict[Any, str] = self._val.get("class_labels", {})
        return labels

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        from PIL import Image as PILImage

        self._require_data()
        with PILImage.open(io.BytesIO(self._data)) as image:
            width, height, kind = image.width, image.height, (image.format or "png").lower()
        yield ImageRecord(name, self._data, kind, width, height, step, wall_time)


def _default_labels(classes: Any) -> dict[Any, str]:
    return {number: f"class_{number}" for number in sorted({int(item) for item in classes})}


def _check_labels(val: Mapping[str, Any]) -> None:
    for number, label in val.get("class_labels", {}).items():
        if not isinstance(number, numbers.Number) or not isinstance(label, str):
            raise TypeError(f"class_labels must map numbers to names, got {number!r}: {label!r}")


def _check_box(box: Mapping[str, Any]) -> None:
    position = box.get("position", {})
    middle = position.get("middle", ())
    if derives_from(middle, "torch"):
        middle = middle.tolist()
    centered = len(middle) == 2 and all(_is_number(position.get(side)) for side in ("width", "height"))
    if not centered and not all(_is_number(position.get(side)) for side in _CORNERS):
        raise TypeError(
            "the position of a box must have middle, width and height, or minX, maxX, minY and maxY, "
            f"got {dict(position)}"
        )
    scores = box.get("scores", {})
    if not isinstance(scores, dict):
        raise TypeError(f"scores of a box must be a dict, got {scores!r}")
    for key, score in scores.items():
        if not isinstance(key, str) or not isinstance(score, numbers.Number):
            raise TypeError(f"scores of a box must map names to numbers, got {key!r}: {score!r}")
    if not isinstance(box.get("class_id", 0), int):
        raise TypeError(f"class_id of a box must be an int, got {box['class_id']!r}")
    if not isinstance(box.get("box_caption", ""), str):
        raise TypeError(f"box_caption must be a text, got {box['box_caption']!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Number)
