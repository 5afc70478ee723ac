"""Convert the arguments of `log_artifact` to an Artifact record whose files are in the spool."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from tracelet.backends import backend_class, vendor_of
from tracelet.capture.values import to_plain
from tracelet.errors import ArtifactError
from tracelet.journal.spool import Spool
from tracelet.records import Artifact, File

_FRAME_WRITERS = {".csv": "to_csv", ".tsv": "to_csv", ".json": "to_json", ".parquet": "to_parquet"}


def to_record(artifact: Any, artifact_path: str | os.PathLike[str] | None, spool: Spool) -> tuple[Artifact, str | None]:
    """Return the record of an artifact, and the vendor's name if it is a vendor's object.

    Raises:
        ArtifactError: see `Experiment.log_artifact`.
    """
    if artifact_path is not None:
        artifact_path = os.fspath(artifact_path)
    vendor = vendor_of(artifact)
    if vendor is not None:
        return _from_vendor(artifact, artifact_path, vendor, spool), vendor
    match artifact:
        case str() | os.PathLike():
            return _path(Path(artifact), artifact_path, spool), None
        case bytes() | bytearray():
            return _one_file(bytes(artifact), _target(artifact_path, "bytes"), spool), None
    if hasattr(artifact, "savefig"):
        target = _target(artifact_path, "a figure")
        out = io.BytesIO()
        try:
            artifact.savefig(out, format=target.suffix[1:])
        except ValueError as error:
            raise ArtifactError(f"log_artifact of a figure: {error}") from error
        return _one_file(out.getvalue(), target, spool), None
    if hasattr(artifact, "to_csv"):
        return _one_file(_frame(artifact, target := _target(artifact_path, "a DataFrame")), target, spool), None
    raise ArtifactError(
        "log_artifact: artifact must be a path, bytes, a pandas DataFrame, a matplotlib figure or a backend's "
        f"artifact object, got {type(artifact).__name__}"
    )


def _path(source: Path, artifact_path: str | None, spool: Spool) -> Artifact:
    if source.is_dir():
        name = _validated(artifact_path).as_posix() if artifact_path else source.resolve().name
        paths = sorted(path for path in source.rglob("*") if path.is_file())
        files = tuple(spool.snapshot(path, path.relative_to(source).as_posix()) for path in paths)
        return Artifact(f"{name}/", files, time.time(), "directory")
    if not source.is_file():
        raise ArtifactError(f"log_artifact: no file or folder {str(source)!r} (working directory: {Path.cwd()})")
    if artifact_path is None:
        target = PurePosixPath(source.name)
    else:
        target = _validated(artifact_path)
        if artifact_path.endswith("/") or not target.suffix:
            target = target / source.name
    return Artifact(target.as_posix(), (spool.snapshot(source, target.name),), time.time())


def _one_file(data: bytes, target: PurePosixPath, spool: Spool) -> Artifact:
    file = msgspec.structs.replace(spool.put(data, ""), name=target.name)
    return Artifact(target.as_posix(), (file,), time.time())


def _frame(frame: Any, target: PurePosixPath) -> bytes:
    writer = _FRAME_WRITERS.get(target.suffix.lower())
    if writer is None:
        raise ArtifactError(
            f"the suffix of a DataFrame must be one of {', '.join(_FRAME_WRITERS)}, got {target.suffix!r}"
        )
    out = io.BytesIO()
    options: dict[str, Any] = {} if writer == "to_json" else {"index": False}
    if target.suffix.lower() == ".tsv":
        options["sep"] = "\t"
    getattr(frame, writer)(out, **options)
    return out.getvalue()


def _from_vendor(artifact: Any, artifact_path: str | None, vendor: str, spool: Spool) -> Artifact:
    adopted = backend_class(vendor).adopt(artifact)
    if adopted is None:
        raise ArtifactError(
            f"log_artifact: artifact must be one of {vendor}'s artifact objects, got {type(artifact).__name__}"
        )
    if artifact_path is not None:
        raise ArtifactError("a backend's artifact object has its own name; omit artifact_path")
    files: list[File] = [spool.snapshot(Path(path), name) for name, path in sorted(adopted.files.items())]
    return Artifact(adopted.name, tuple(files), time.time(), adopted.type, to_plain(adopted.metadata))


def _target(artifact_path: str | None, kind: str) -> PurePosixPath:
    if artifact_path is None or artifact_path.endswith("/") or not PurePosixPath(artifact_path).suffix:
        raise ArtifactError(f"log_artifact of {kind} needs artifact_path with a file name, such as 'plots/name.ext'")
    return _validated(artifact_path)


def _validated(artifact_path: str) -> PurePosixPath:
    path = PurePosixPath(artifact_path.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] if path.parts else True:
        raise ArtifactError(f"artifact_path {artifact_path!r} must be a relative path without '..'")
    return path
