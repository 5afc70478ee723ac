"""What `log_artifact` is given, as one Artifact record whose files are in the spool."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from tracelet.backends import backend_class, vendor_of
from tracelet.capture.values import plain
from tracelet.errors import ArtifactError
from tracelet.journal.spool import Spool
from tracelet.records import Artifact, File

_FRAME_WRITERS = {".csv": "to_csv", ".tsv": "to_csv", ".json": "to_json", ".parquet": "to_parquet"}


def take(artifact: Any, artifact_path: str | os.PathLike[str] | None, spool: Spool) -> tuple[Artifact, str | None]:
    """The record of an artifact, and the vendor it came from where it is a vendor's object.

    Raises:
        ArtifactError: see `Experiment.log_artifact`.
    """
    if artifact_path is not None:
        artifact_path = os.fspath(artifact_path)
    vendor = vendor_of(artifact)
    if vendor is not None:
        return _adopted(artifact, artifact_path, vendor, spool), vendor
    match artifact:
        case str() | os.PathLike():
            return _path(Path(artifact), artifact_path, spool), None
        case bytes() | bytearray():
            return _single(bytes(artifact), _target(artifact_path, "bytes"), spool), None
    if hasattr(artifact, "savefig"):
        target = _target(artifact_path, "a figure")
        out = io.BytesIO()
        try:
            artifact.savefig(out, format=target.suffix[1:])
        except ValueError as error:
            raise ArtifactError(f"log_artifact of a figure: {error}") from error
        return _single(out.getvalue(), target, spool), None
    if hasattr(artifact, "to_csv"):
        return _single(_frame(artifact, target := _target(artifact_path, "a DataFrame")), target, spool), None
    raise ArtifactError(
        f"log_artifact takes a path, bytes, a pandas DataFrame, a matplotlib figure or a backend's artifact object, "
        f"not {type(artifact).__name__}"
    )


def _path(source: Path, artifact_path: str | None, spool: Spool) -> Artifact:
    if source.is_dir():
        name = _checked(artifact_path).as_posix() if artifact_path else source.resolve().name
        paths = sorted(path for path in source.rglob("*") if path.is_file())
        files = tuple(spool.snapshot(path, path.relative_to(source).as_posix()) for path in paths)
        return Artifact(f"{name}/", files, time.time(), "directory")
    if not source.is_file():
        raise ArtifactError(f"log_artifact: there is no file or folder {str(source)!r} (looked in {Path.cwd()})")
    if artifact_path is None:
        target = PurePosixPath(source.name)
    else:
        target = _checked(artifact_path)
        if artifact_path.endswith("/") or not target.suffix:
            target = target / source.name
    return Artifact(target.as_posix(), (spool.snapshot(source, target.name),), time.time())


def _single(data: bytes, target: PurePosixPath, spool: Spool) -> Artifact:
    file = msgspec.structs.replace(spool.put(data, ""), name=target.name)
    return Artifact(target.as_posix(), (file,), time.time())


def _frame(frame: Any, target: PurePosixPath) -> bytes:
    writer = _FRAME_WRITERS.get(target.suffix.lower())
    if writer is None:
        raise ArtifactError(f"a DataFrame is written as {', '.join(_FRAME_WRITERS)}, not as {target.suffix!r}")
    out = io.BytesIO()
    options: dict[str, Any] = {} if writer == "to_json" else {"index": False}
    if target.suffix.lower() == ".tsv":
        options["sep"] = "\t"
    getattr(frame, writer)(out, **options)
    return out.getvalue()


def _adopted(artifact: Any, artifact_path: str | None, vendor: str, spool: Spool) -> Artifact:
    found = backend_class(vendor).adopt(artifact)
    if found is None:
        raise ArtifactError(
            f"log_artifact cannot take a {type(artifact).__name__}; it takes {vendor}'s artifact objects"
        )
    if artifact_path is not None:
        raise ArtifactError("a backend's artifact object has its own name; leave artifact_path out")
    files: list[File] = [spool.snapshot(Path(path), name) for name, path in sorted(found.files.items())]
    return Artifact(found.name, tuple(files), time.time(), found.type, plain(found.metadata))


def _target(artifact_path: str | None, what: str) -> PurePosixPath:
    if artifact_path is None or artifact_path.endswith("/") or not PurePosixPath(artifact_path).suffix:
        raise ArtifactError(f"log_artifact of {what} needs artifact_path with a file name, such as 'plots/name.ext'")
    return _checked(artifact_path)


def _checked(artifact_path: str) -> PurePosixPath:
    path = PurePosixPath(artifact_path.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] if path.parts else True:
        raise ArtifactError(f"artifact_path {artifact_path!r} must be a relative path without '..'")
    return path
