"""Write the scalars of runs as one long table, or whole runs as a folder of open files."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias

from tracelet.errors import ConfigurationError, MissingDependency, TraceletError
from tracelet.filesystem import replacing
from tracelet.records import KINDS, Artifact, File, Record, Scalar, kind
from tracelet.runs import export
from tracelet.runs.folders import safe_filename
from tracelet.runs.reading import Run
from tracelet.runs.scalars import Scalars

COLUMNS = ("run", "tag", "step", "wall_time", "value")

_Parts: TypeAlias = Iterator[tuple[str, Scalars]]


def write(runs: Sequence[Run], target: Path) -> None:
    """Write runs to a .parquet, .csv or .json file, or to a folder, in bounded memory.

    A file has one row for each scalar: run id, tag, step, wall time and value. In JSON, a row is an object, and NaN and
    the infinities are texts. A folder has a folder for each run: `run.json`, `scalars.parquet` (without pyarrow,
    `scalars.csv`), `records.jsonl` with all other records, and their files in `files/`.

    Raises:
        ConfigurationError: the suffix is unknown, or a folder for a run exists.
        MissingDependency: pyarrow is needed and not installed.
        JournalError: a run cannot be read.
        TraceletError: the file or folder cannot be written.
    """
    is_folder = not target.suffix or target.is_dir()
    write_table = _FORMATS.get(target.suffix.lower())
    if write_table is None and not is_folder:
        raise ConfigurationError(
            f"cannot export to {str(target)!r}: use a file that ends in {', '.join(_FORMATS)}, or a folder"
        )
    try:
        if write_table is None or is_folder:
            for run in runs:
                _write_folder(run, target / safe_filename(run.id))
        else:
            write_table(_parts(runs), target)
    except OSError as error:
        if isinstance(error, TraceletError):
            raise
        raise TraceletError(f"cannot write {target}: {error.strerror or error}") from error


def _parts(runs: Iterable[Run]) -> _Parts:
    for run in runs:
        for part in run.iter_scalars():
            yield run.id, part


def _write_parquet(parts: _Parts, path: Path) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependency(
            "Parquet needs pyarrow. Install it with: pip install 'tracelet[export]', or export to .csv"
        ) from error
    types = (pyarrow.string(), pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.float64())
    schema = pyarrow.schema(list(zip(COLUMNS, types, strict=True)))

    def text(names: Sequence[str], codes: Any) -> Any:
        return pyarrow.DictionaryArray.from_arrays(codes, pyarrow.array(names, pyarrow.string())).cast(pyarrow.string())

    with replacing(path) as file, parquet.ParquetWriter(file, schema, use_dictionary=list(COLUMNS[:2])) as writer:
        for run_id, part in parts:
            codes = part.codes
            columns = [text([run_id], codes * 0), text(part.names, codes), part.step, part.wall_time, part.value]
            writer.write_table(pyarrow.table(columns, schema=schema))


def _write_csv(parts: _Parts, path: Path) -> None:
    with replacing(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for run_id, part in parts:
            writer.writerows(_rows(run_id, part))


def _write_json(parts: _Parts, path: Path) -> None:
    with replacing(path, "w", encoding="utf-8") as file:
        separator = "[\n"
        for run_id, part in parts:
            names = [f'{{"run": {export.text(run_id)}, "tag": {export.text(name)}' for name in part.names]
            for code, *numbers in zip(part.codes.tolist(), *_numbers(part), strict=True):
                step, wall_time, value = (repr(one) if one - one == 0 else export.text(one) for one in numbers)
                file.write(f'{separator}{names[code]}, "step": {step}, "wall_time": {wall_time}, "value": {value}}}')
                separator = ",\n"
        file.write("[]\n" if separator == "[\n" else "\n]\n")


def _rows(run_id: str, part: Scalars) -> Iterable[tuple[Any, ...]]:
    tags = map(part.names.__getitem__, part.codes.tolist())
    return zip(repeat(run_id, len(part)), tags, *_numbers(part), strict=True)


def _numbers(part: Scalars) -> tuple[list[int], list[float], list[float]]:
    return part.step.tolist(), part.wall_time.tolist(), part.value.tolist()


_FORMATS: dict[str, Callable[[_Parts, Path], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".json": _write_json,
}


def _write_folder(run: Run, folder: Path) -> None:
    if folder.exists():
        raise ConfigurationError(f"cannot export to {folder}: it exists. Remove it, or choose another folder")
    (folder / "files").mkdir(parents=True)
    described = export.of_summary(run.state)
    described |= {"tags": run.tags, "params": run.params, "summary": run.summary}
    (folder / "run.json").write_text(export.text(described) + "\n", encoding="utf-8")
    try:
        _write_parquet(_parts([run]), folder / "scalars.parquet")
    except MissingDependency:
        _write_csv(_parts([run]), folder / "scalars.csv")
    with open(folder / "records.jsonl", "w", encoding="utf-8") as lines:
        for cls in KINDS:
            if cls is not Scalar:
                for record in run.iter_records(cls):
                    lines.write(export.text(_described(record, folder / "files"), indent=None) + "\n")


def _described(record: Record, files: Path) -> dict[str, Any]:
    """Return the fields of a record, and copy its files. `path` is that of the copy, relative to the run's folder."""

    def plain(value: Any) -> Any:
        match value:
            case File():
                stored = Path(value.path)
                name = value.digest if isinstance(record, Artifact) else value.name
                if value.path and stored.is_file() and not (files / name).exists():
                    shutil.copyfile(stored, files / name)
                path = f"files/{name}" if value.path and (files / name).exists() else None
                return {"name": value.name, "size": value.size, "sha256": value.digest, "path": path}
            case tuple():
                return [plain(item) for item in value]
            case _:
                return value

    fields = {name: plain(getattr(record, name)) for name in record.__struct_fields__}
    return {"kind": kind(record), **fields}
