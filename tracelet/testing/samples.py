"""One record of each kind, with payload files as in a run's spool, and awkward tags and values."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import struct
import wave
import zlib
from pathlib import Path

from tracelet.records import (
    Alert,
    Artifact,
    Audio,
    Definition,
    Embedding,
    File,
    Graph,
    Histogram,
    Image,
    Layout,
    Mesh,
    Params,
    PRCurve,
    RawSummary,
    Record,
    Scalar,
    Summary,
    Table,
    Tags,
    Tensor,
    Text,
    Video,
)

WALL_TIME = 1_700_000_000.25  # exact in milliseconds, the precision of some vendors

AWKWARD_TAGS: tuple[str, ...] = (
    *("loss (train)", "acc@1", "../x", "..", ".", "/a//b/", "a//b", "a/b", "a.b", "a_b", "a:b", "a b", "a\\b", "a%2Fb"),
    *(
        "",
        " ",
        "trailing ",
        "trailing",
        "dot.",
        "dot",
        "Loss",
        "loss",
        "con",
        "step",
        "a~1",
        "x" * 300,
        "x" * 299 + "y",
    ),
    *(
        "é",
        "e\u0301",
        "\U0001f680",
        "\U0001f681",
        "日" * 120,
        'a "quote", a comma',
        "two\nlines",
        "two\rlines",
        "tab\t",
    ),
)
AWKWARD_FLOATS = (math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, 1.7976931348623157e308, 2.0**53, 0.1, 1 / 3)

_GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_GRAPH = b"\n\x10\n\x01x\x12\x0bPlaceholder"  # GraphDef { node { name: "x" op: "Placeholder" } }


def stored(folder: Path, data: bytes, name: str) -> File:
    """Write `data` to a file below `folder`. `name` is the name of the `File`: a path in an artifact, or any name."""
    digest = hashlib.sha256(data).hexdigest()
    path = folder / "spool" / f"{digest}{Path(name).suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return File(name=name, digest=digest, size=len(data), path=str(path))


def png(color: tuple[int, int, int], size: int = 4) -> bytes:
    """Return a square PNG image of one color."""
    pixels = (b"\0" + bytes(color) * size) * size
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def wav(rate: int = 8000) -> bytes:
    """Return 0.1 s of a square wave."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(struct.pack("<2h", 9000, -9000) * (rate // 20))
    return out.getvalue()


def ply() -> bytes:
    """Return a mesh of one triangle."""
    header = (
        "ply\nformat binary_little_endian 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    )
    return header.encode() + struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0) + struct.pack("<B3i", 3, 0, 1, 2)


def image(folder: Path, tag: str, step: int, color: tuple[int, int, int]) -> Image:
    return Image(tag, stored(folder, png(color), "a.png"), "png", 4, 4, step, WALL_TIME)


def histogram(tag: str, step: int) -> Histogram:
    """Return ten values in four buckets, with edges that have no short decimal form."""
    limits, counts = (-1 / 3, 0.1, 0.7, 2.0**0.5), (1.0, 4.0, 0.0, 5.0)
    return Histogram(tag, limits, counts, -0.5, 1.25, 10.0, 4.5, 7.125, step, WALL_TIME)


def artifacts(folder: Path) -> list[Artifact]:
    """Return an artifact of one file, and one of a folder with two files."""
    model = stored(folder, b"weights", "m.pth"), stored(folder, b"", "sub/empty.txt")
    return [
        Artifact("plots/a.png", (stored(folder, png((0, 0, 255)), "a.png"),), WALL_TIME, metadata={"dpi": 100}),
        Artifact("models/", model, WALL_TIME, "model"),
    ]


def sample_records(tmp_path: Path) -> list[Record]:
    """Return one record of each kind, and two artifacts. Payloads are existing `File`s below `tmp_path`."""
    table = {"columns": ["name", "score"], "rows": [["a", 0.1], ["b", float("nan")]]}
    layout = {"category": [{"title": "losses", "chart": [{"title": "both", "multiline": {"tag": ["loss"]}}]}]}
    ramp = tuple(i / 4 for i in range(5))
    vectors = stored(tmp_path, b"1.0\t2.0\n3.0\t4.0\n", "tensors.tsv"), stored(tmp_path, b"a\nb\n", "metadata.tsv")
    numbers = stored(tmp_path, struct.pack("<6f", *range(6)), "t.bin")
    return [
        Scalar("sample/scalar", 0.1, 3, WALL_TIME),
        histogram("sample/histogram", 3),
        image(tmp_path, "sample/image", 3, (255, 0, 0)),
        Video("sample/video", stored(tmp_path, _GIF, "v.gif"), "gif", 1, 1, 3, WALL_TIME),
        Audio("sample/audio", stored(tmp_path, wav(), "s.wav"), "wav", 8000.0, 3, WALL_TIME),
        Text("sample/text", "**bold**, «ünïcode» and a\nnew line", 3, WALL_TIME),
        PRCurve("sample/pr_curve", ramp, ramp, ramp, ramp, ramp, ramp, 3, WALL_TIME),
        Tensor("sample/tensor", numbers, "float32", (2, 3), 3, WALL_TIME),
        Mesh("sample/mesh", (stored(tmp_path, ply(), "p.ply"),), '{"camera": {}}', 3, WALL_TIME),
        Embedding("sample/embedding", ("tensors.tsv", "metadata.tsv"), vectors, 3, WALL_TIME),
        Graph("sample/graph", (stored(tmp_path, _GRAPH, "g.pb"),), 3, WALL_TIME),
        Layout("sample/layout", json.dumps(layout), 3, WALL_TIME),
        RawSummary("sample/raw", stored(tmp_path, b"\n\x0asample/raw", "r.pb"), "some_plugin", 3, WALL_TIME),
        Table("sample/table", stored(tmp_path, json.dumps(table).encode(), "t.json"), 3, WALL_TIME),
        Params({"lr": 0.001, "model.layers": [1, 2], "name": "net", "debug": False, "seed": None}, WALL_TIME),
        Definition("sample/*", "sample/scalar", False, ("min", "last"), WALL_TIME),
        *artifacts(tmp_path),
        Summary({"best_accuracy": 0.93, "val.steps": 20_000, "stopped": "early", "ok": True, "gap": None}, WALL_TIME),
        Tags(("sample", "two words"), WALL_TIME),
        Alert("sample alert", "something, «ünïcode» and a\nnew line", "warning", WALL_TIME),
    ]
