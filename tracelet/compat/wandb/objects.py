"""Define 3D objects, molecules and plotly figures, which are logged as files."""

from __future__ import annotations

import html
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from tracelet.capture.values import to_plain
from tracelet.compat.wandb.base import Entry, Media, derives_from, is_path
from tracelet.compat.wandb.errors import Error, UnsupportedError
from tracelet.compat.wandb.media import Image, is_matplotlib, to_figure
from tracelet.records import Text

_PLOTLY_SCRIPT = "https://cdn.plot.ly/plotly-2.35.2.min.js"


class _FileMedia(Media):
    """A value that is logged as a file, with its caption as a text."""

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        self._require_data()
        yield self._file_value(name, step)
        if self._caption is not None:
            yield Text(f"{name}/caption", str(self._caption), step, wall_time)

    def _read_stream(self, stream: Any, file_type: str | None, known: Sequence[str]) -> None:
        """Read an open file. Raise ValueError if `file_type` is missing or unknown."""
        if file_type is None:
            raise ValueError("an open file needs file_type=...")
        if file_type not in known:
            raise ValueError(f"file_type must be one of {', '.join(known)}, got {file_type!r}")
        if hasattr(stream, "seek"):
            stream.seek(0)
        content = stream.read()
        self._data = content.encode() if isinstance(content, str) else content
        self._extension = f".{file_type}"

    def _read_path(self, path: str, known: Sequence[str]) -> None:
        ending = next((f".{kind}" for kind in known if path.endswith(f".{kind}")), None)
        if ending is None:
            raise ValueError(f"a {type(self).__name__} must be a file of type {', '.join(known)}, got {path!r}")
        self._read(path)
        self._extension = ending


class Object3D(_FileMedia):
    """A 3D object: a file, points [N, 3], [N, 4] with a category or [N, 6] with a color, or a `lidar/beta` scene.

    Raises:
        ValueError: the file type or the shape is unknown.
    """

    SUPPORTED_TYPES: ClassVar[set[str]] = {"obj", "gltf", "glb", "babylon", "stl", "pts.json"}
    SUPPORTED_POINT_CLOUD_TYPES: ClassVar[set[str]] = {"lidar/beta"}

    _log_type = "object3D-file"
    _folder = "object3D"

    def __init__(self, data_or_path: Any, caption: str | None = None, file_type: str | None = None) -> None:
        super().__init__(caption)
        known = sorted(self.SUPPORTED_TYPES)
        source = _path_of(data_or_path)
        if is_path(source):
            self._read_path(os.fspath(source), known)
        elif hasattr(source, "read"):
            self._read_stream(source, file_type, known)
        elif isinstance(source, dict) and "type" in source:
            if source["type"] not in self.SUPPORTED_POINT_CLOUD_TYPES:
                raise ValueError(f"the type of a scene must be lidar/beta, got {source['type']!r}")
            parts = {part: source.get(part, []) for part in ("vectors", "points", "boxes")}
            self._encode({"type": source["type"], **{part: _to_list(items) for part, items in parts.items()}})
        elif derives_from(source, "numpy"):
            self._encode(_points(source).tolist())
        else:
            raise ValueError(f"data must be an array, a dict, a path or an open file, got a {type(source).__name__}")

    def _encode(self, data: Any) -> None:
        self._data, self._extension = json.dumps(to_plain(data)).encode(), ".pts.json"

    @classmethod
    def from_file(cls, data_or_path: Any, file_type: str | None = None) -> Object3D:
        return cls(data_or_path, file_type=file_type)

    @classmethod
    def from_numpy(cls, data: Any) -> Object3D:
        if not derives_from(data, "numpy"):
            raise ValueError(f"data must be a numpy array, got a {type(data).__name__}")
        return cls(_points(data))

    @classmethod
    def from_point_cloud(
        cls,
        points: Sequence[Any],
        boxes: Sequence[Any],
        vectors: Sequence[Any] | None = None,
        point_cloud_type: str = "lidar/beta",
    ) -> Object3D:
        if point_cloud_type not in cls.SUPPORTED_POINT_CLOUD_TYPES:
            raise ValueError(f"point_cloud_type must be lidar/beta, got {point_cloud_type!r}")
        return cls({"type": point_cloud_type, "points": points, "boxes": boxes, "vectors": vectors or []})


def _path_of(source: Any) -> Any:
    """Return the path of an open file that has one, since its type is that of the file."""
    name = getattr(source, "name", None)
    return name if isinstance(name, str) and not is_path(source) else source


def _points(array: Any) -> Any:
    if array.ndim != 2 or array.shape[1] not in (3, 4, 6):
        raise ValueError(f"points must have the shape [N, 3], [N, 4] or [N, 6], got {list(array.shape)}")
    return array


def _to_list(items: Any) -> Any:
    return items.tolist() if hasattr(items, "tolist") else to_plain(list(items))


def box3d(
    *,
    center: Any,
    size: Any,
    orientation: Any,
    color: Any,
    label: str | None = None,
    score: float | None = None,
) -> dict[str, Any]:
    """Return a 3D box as its eight corners; `orientation` is a quaternion [r, x, y, z].

    Raises:
        ValueError: the quaternion is zero.
    """
    import numpy as np

    middle, sides, quaternion = (np.asarray(part, dtype=np.float64) for part in (center, size, orientation))
    assert (middle.shape, sides.shape, quaternion.shape) == ((3,), (3,), (4,))
    if not quaternion.any():
        raise ValueError("orientation must not be zero")
    real, x, y, z = quaternion / np.linalg.norm(quaternion)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + 2 * real * cross + 2 * cross @ cross
    corners = np.array(list(itertools.product((-0.5, 0.5), repeat=3))) * sides
    rotated = middle + corners @ rotation.T
    return {"corners": tuple(tuple(corner) for corner in rotated), "color": color, "label": label, "score": score}


class Molecule(_FileMedia):
    """A molecule: a file, or an open file with `file_type`.

    Raises:
        ValueError: the file type is unknown.
    """

    SUPPORTED_TYPES: ClassVar[set[str]] = {
        *("pdb", "pqr", "mmcif", "mcif", "cif", "sdf", "sd", "gro", "mol2", "mmtf"),
    }
    SUPPORTED_RDKIT_TYPES: ClassVar[set[str]] = {"mol", "sdf"}

    _log_type = "molecule-file"
    _folder = "molecule"

    def __init__(self, data_or_path: Any, caption: str | None = None, file_type: str | None = None) -> None:
        super().__init__(caption)
        known = sorted(self.SUPPORTED_TYPES)
        source = _path_of(data_or_path)
        if is_path(source):
            self._read_path(os.fspath(source), known)
        elif hasattr(source, "read"):
            self._read_stream(source, file_type, known)
        else:
            raise ValueError(f"data must be a path or an open file, got a {type(source).__name__}")

    @classmethod
    def from_rdkit(cls, *args: Any, **kwargs: Any) -> Molecule:
        raise UnsupportedError(
            "wandb.Molecule.from_rdkit is not supported. Convert the molecule with rdkit.Chem.MolToPDBBlock, and pass "
            'wandb.Molecule(io.StringIO(block), file_type="pdb")'
        )

    from_smiles = from_rdkit


class Plotly(_FileMedia):
    """A figure of plotly, or one of matplotlib that plotly can convert.

    It is logged as plotly's JSON, and as a page that shows it with plotly's script from its server.

    Raises:
        ValueError: the value is no figure.
    """

    _log_type = "plotly-file"
    _folder = "plotly"
    _extension = ".plotly.json"

    def __init__(self, val: Any) -> None:
        super().__init__()
        if is_matplotlib(val):
            val = _converted(val)
        if not hasattr(val, "to_plotly_json"):
            raise ValueError(f"a plot must be a figure of plotly or matplotlib, got a {type(val).__name__}")
        self._data = json.dumps(to_plain(val.to_plotly_json())).encode()

    @classmethod
    def make_plot_media(cls, val: Any) -> Image | Plotly:
        """Return a figure of matplotlib as an image, and one of plotly as it is."""
        return Image(val) if is_matplotlib(val) else cls(val)

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        yield from super().records(name, step, wall_time)
        yield self._file_value(name, step, ".html", self._page(name))

    def _page(self, name: str) -> bytes:
        figure = self._data.decode().replace("</", "<\\/")
        return (
            f'<!doctype html><meta charset="utf-8"><title>{html.escape(name)}</title>'
            f'<script src="{_PLOTLY_SCRIPT}"></script><div id="plot"></div>'
            f'<script>const figure = {figure}; Plotly.newPlot("plot", figure.data, figure.layout);</script>'
        ).encode()


def _converted(value: Any) -> Any:
    figure = to_figure(value)
    if any(axes.images for axes in figure.axes):
        raise ValueError("plotly cannot convert a matplotlib figure with images. Log wandb.Image(figure)")
    try:
        from plotly.tools import mpl_to_plotly
    except ImportError as error:
        raise Error(
            "wandb.Plotly needs plotly for a matplotlib figure. Run: pip install plotly, or log wandb.Image(figure)"
        ) from error
    return mpl_to_plotly(figure)
