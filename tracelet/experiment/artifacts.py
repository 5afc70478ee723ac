"""Convert the arguments of `log_artifact` to an Artifact record whose files are in the spool."""

from __future__ import annotations

import io
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from tracelet.backends import adopt, vendor_of
from tracelet.backends.capabilities import AdoptedArtifact
from tracelet.capture.media import with_index
from tracelet.capture.values import to_plain
from tracelet.errors import ArtifactError, JournalError
from tracelet.guard import logger
from tracelet.journal.spool import Spool
from tracelet.records import Artifact, File

_MAX_LISTED = 5
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
        case AdoptedArtifact():  # of a module in `tracelet.compat`
            return _adopted(artifact, spool), None
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
        name = _validated(artifact_path).as_posix() if artifact_path else to_plain(source.resolve().name)
        return Artifact(f"{name}/", tuple(_folder_files(source, spool)), time.time(), "directory")
    if not source.is_file():
        raise ArtifactError(f"log_artifact: no file or folder {str(source)!r} (working directory: {Path.cwd()})")
    file_name = to_plain(source.name)  # it need not be UTF-8, unlike records
    if artifact_path is None:
        target = PurePosixPath(file_name)
    else:
        target = _validated(artifact_path)
        if artifact_path.endswith("/") or not target.suffix:
            target = target / file_name
    try:
        return Artifact(target.as_posix(), (spool.snapshot(source, target.name),), time.time())
    except JournalError:
        raise
    except OSError as error:
        raise ArtifactError(f"log_artifact: cannot read {str(source)!r}: {error.strerror or error}") from error


def _folder_files(source: Path, spool: Spool) -> Iterator[File]:
    """Store the files of a folder, also behind links. Log those that cannot be read."""
    omitted = []
    for path, reason in _walk(source, ()):
        name = path.relative_to(source).as_posix()
        if reason is None:
            try:
                yield spool.snapshot(path, to_plain(name))
                continue
            except JournalError:
                raise
            except OSError as error:
                reason = error.strerror or str(error)
        omitted.append(f"{name!r} ({reason})")
    if omitted:
        listed = ", ".join(omitted[:_MAX_LISTED]) + (", ..." if len(omitted) > _MAX_LISTED else "")
        logger.warning("tracelet: log_artifact(%r) omitted %d: %s", str(source), len(omitted), listed)


def _walk(folder: Path, parents: tuple[str, ...]) -> Iterator[tuple[Path, str | None]]:
    """Yield the files below a folder, sorted, with the reason if one cannot be stored."""
    parents = (*parents, os.path.realpath(folder))
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        yield folder, error.strerror
        return
    for path in paths:
        if os.path.isdir(path):  # `Path.is_dir` raises if the folder of `path` cannot be entered
            if os.path.realpath(path) in parents:
                yield path, "a link to a folder above it"
            else:
                yield from _walk(path, parents)
        else:
            broken = "a broken link" if os.path.islink(path) else "not a file"
            yield path, None if os.path.isfile(path) else broken


def _one_file(data: bytes, target: PurePosixPath, spool: Spool) -> Artifact:
    file = msgspec.structs.replace(spool.put(data, ""), name=target.name)
    return Artifact(target.as_posix(), (file,), time.time())


def _frame(frame: Any, target: PurePosixPath) -> bytes:
    writer = _FRAME_WRITERS.get(target.suffix.lower())
    if writer is None:
        raise ArtifactError(
            f"the suffix of a DataFrame must be one of {', '.join(_FRAME_WRITERS)}, got {target.suffix!r}"
        )
    if writer == "to_json":
        return _frame_json(frame)
    out = io.BytesIO()
    options = {"sep": "\t"} if target.suffix.lower() == ".tsv" else {}
    getattr(with_index(frame), writer)(out, index=False, **options)
    return out.getvalue()


def _frame_json(frame: Any) -> bytes:
    """Encode a DataFrame as pandas does, but with all digits: pandas writes at most 15 decimals, and 1e-16 as 0."""
    columns = json.loads(frame.to_json(double_precision=15))
    if hasattr(frame, "columns"):
        for number, (name, column) in enumerate(columns.items()):
            exact = frame.iloc[:, number]
            if exact.dtype.kind == "f":
                finite = (value if _is_finite(value) else None for value in exact.tolist())
                columns[name] = dict(zip(column, finite, strict=True))
    return json.dumps(columns, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)  # pandas.NA is not a float


def _from_vendor(artifact: Any, artifact_path: str | None, vendor: str, spool: Spool) -> Artifact:
    adopted = adopt(vendor, artifact)
    if adopted is None:
        raise ArtifactError(
            f"log_artifact: artifact must be one of {vendor}'s artifact objects, got {type(artifact).__name__}"
        )
    if artifact_path is not None:
        raise ArtifactError("a backend's artifact object has its own name; omit artifact_path")
    return _adopted(adopted, spool)


def _adopted(adopted: AdoptedArtifact, spool: Spool) -> Artifact:
    files = [spool.snapshot(Path(path), to_plain(name)) for name, path in sorted(adopted.files.items())]
    return Artifact(adopted.name, tuple(files), time.time(), adopted.type, to_plain(adopted.metadata))


def _target(artifact_path: str | None, kind: str) -> PurePosixPath:
    if artifact_path is None or artifact_path.endswith("/") or not PurePosixPath(artifact_path).suffix:
        raise ArtifactError(f"log_artifact of {kind} needs artifact_path with a file name, such as 'plots/name.ext'")
    return _validated(artifact_path)


def _validated(artifact_path: str) -> PurePosixPath:
    path = PurePosixPath(to_plain(artifact_path.replace("\\", "/")))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] if path.parts else True:
        raise ArtifactError(f"artifact_path {artifact_path!r} must be a relative path without '..'")
    return path
