"""Write rows and files to Trackio's folder, through Trackio's own storage class."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from tracelet import records as r
from tracelet.backends import exceptions
from tracelet.backends.exceptions import UNAVAILABLE, Translated, Verdict
from tracelet.backends.file_names import copy, safe_path
from tracelet.backends.paths import Paths
from tracelet.backends.presentation import artifact_files
from tracelet.backends.trackio.values import artifact_name, to_plain
from tracelet.filesystem import make_private

# A locked database, a full disk, a damaged file.
TABLE: Mapping[str, Verdict] = {"sqlite3.Error": UNAVAILABLE}


def translated(*, records: bool = False) -> Translated:
    """Raise only the two errors of a backend. `records`: one of the records being written may be invalid."""
    return exceptions.translated("trackio", TABLE, record=records)


class Row(NamedTuple):
    """A row of a table. Trackio ignores a row if its table has the same `key` with the same number of values."""

    key: str
    step: int
    timestamp: str
    values: dict[str, Any]


Rows: TypeAlias = Sequence[Row]


class Store:
    """The store of one run: the project's database, and files beside it."""

    def __init__(self, folder: Path | None, project: str, name: str, run_id: str) -> None:
        """Create the database if it is missing.

        Raises:
            ImportError: Trackio is not installed.
            OSError, sqlite3.Error: the database cannot be written now.
            ValueError: Trackio reserves the project's name.
        """
        self._module = _storage_module(folder)
        self._sql, self.folder = self._module.SQLiteStorage, Path(self._module.TRACKIO_DIR)
        self._run = {"project": to_plain(project), "run": to_plain(name), "run_id": to_plain(run_id)}
        self._sql.validate_project_name(self._run["project"])
        self.database: Path = self._sql.init_db(self._run["project"])

    def locked(self) -> Any:
        """Exclude other tracelet runs of the project: they may share this run's configuration. Waits up to 10 s."""
        return self._module.ProcessLock(self.database.with_suffix(".tracelet.lock"))

    def read(self) -> dict[str, Any] | None:
        """Return the run's configuration, and use the run's present name; None if the run is not in the database."""
        if not self.database.exists():
            return None
        with contextlib.closing(sqlite3.connect(f"{self.database.as_uri()}?mode=rw", uri=True, timeout=30)) as db:
            found = db.execute("SELECT run_name, config FROM configs WHERE run_id = :run_id", self._run).fetchone()
        if found is None:
            return None
        self._run["run"] = found[0]
        return dict(json.loads(found[1]))

    def write(self, rows: Rows, config: dict[str, Any], system: Rows = (), alerts: Rows = ()) -> None:
        """Add system metrics and alerts; then add metrics and replace the configuration in one transaction."""
        self._sql.bulk_log_system(**self._run, **_columns(system))
        columns = _columns(alerts)
        fields = {f"{key}s": [row.values[key] for row in alerts] for key in ("title", "text", "level")}
        keys = {"timestamps": columns["timestamps"], "alert_ids": columns["log_ids"]}
        self._sql.bulk_alert(**self._run, **fields, **keys, steps=[None] * len(alerts))
        self._sql.bulk_log(**self._run, **_columns(rows), steps=[row.step for row in rows], config=config)

    def put_file(self, step: int, name: str, payload: r.Payload) -> str:
        """Store a file, and return its path below `media`. The same content and name have the same path.

        The path has the run's id: if it had the name, renaming one run would move the files of another.
        """
        digest = payload.digest if isinstance(payload, r.File) else hashlib.sha256(payload).hexdigest()
        leaf = name if name.startswith(digest) else f"{digest[:16]}-{safe_path(name).replace('/', '_')}"
        path = f"{self.database.stem}/{safe_path(self._run['run_id'])}/{step}/{leaf}"
        target = self.folder / "media" / path
        make_private(target.parent)
        if isinstance(payload, r.File):
            copy(payload.path, target)
        else:
            target.write_bytes(payload)
        return path

    def put_artifact(self, record: r.Artifact) -> None:
        """Add a version of an artifact. Do nothing if a version has the same files."""
        from trackio import cas

        paths, manifest = Paths(), []
        blobs = self.folder / "artifacts" / self.database.stem / "blobs" / "sha256"
        for path, file in artifact_files(record).items():
            assert isinstance(file, r.File)
            cas.stage_blob_from_file(Path(file.path), file.digest, blobs / file.digest[:2] / file.digest)
            manifest.append({"path": paths.assign(path, safe_path(path)), "digest": file.digest, "size": file.size})
        project, run, run_id = self._run.values()
        name, kind = artifact_name(record.name), to_plain(record.type)
        earlier = self._sql.get_artifact_manifest(project, name, None)
        if earlier is not None and earlier["type"] != kind:
            name = artifact_name(record.name, kind)
        original = None if name == record.name else to_plain(record.name)
        metadata = self._module.serialize_values(to_plain(record.metadata)) or None
        self._sql.commit_artifact_version(project, name, kind, original, manifest, metadata, None, run, run_id)


def _columns(rows: Rows) -> dict[str, Any]:
    return {
        "metrics_list": [row.values for row in rows],
        "timestamps": [row.timestamp for row in rows],
        "log_ids": [f"{row.key}:{len(row.values)}" for row in rows],
    }


@functools.lru_cache(maxsize=8)
def _storage_module(folder: Path | None) -> Any:
    """Return a copy of Trackio's storage module, for a folder. The program's own Trackio keeps its folder.

    Raises:
        ImportError: Trackio is not installed.
    """
    from trackio import sqlite_storage

    module: Any = importlib.util.module_from_spec(sqlite_storage.__spec__)
    sqlite_storage.__spec__.loader.exec_module(module)
    module.TRACKIO_DIR = (folder or module.TRACKIO_DIR).absolute()
    # Otherwise the first access downloads the bucket of TRACKIO_BUCKET_ID.
    module.SQLiteStorage._dataset_import_attempted = True
    return module
