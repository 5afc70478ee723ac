"""Read the files of an MLflow run: images and tables of its views, and artifacts."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from tracelet.backends.mlflow.errors import translated
from tracelet.capture import media
from tracelet.errors import BackendError, TraceletError
from tracelet.filesystem import no_follow
from tracelet.importer.mlflow.store import OpenStore
from tracelet.importer.past_run import PastRun
from tracelet.records import Artifact, File, Image, Record, Table

# The names of `log_image`, also those of MLflow before 2.16.
_IMAGE = re.compile(r"images/([^/]+)[+%]step[+%](-?\d+)[+%]timestamp[+%](\d+)[+%][0-9a-f-]{36}([+%]compressed)?\.(\w+)")
_TABLES, _IMAGES, _PARAMS = "mlflow.loggedArtifacts", "mlflow.loggedImages", "tracelet/params.json"
_PNG = b"\x89PNG\r\n\x1a\n"


class Artifacts:
    """The files of a run by their paths: in its folder, or downloaded one by one.

    A store may come from anywhere and name any folder of this machine, so one that does not end in
    `<run id>/artifacts` is not read, and neither are links.
    """

    def __init__(self, store: OpenStore, native: Any, run: PastRun, name_of: Callable[[str], str]) -> None:
        self._client, self._native, self._run, self._name_of = store.client, native, run, name_of
        self._undo = contextlib.ExitStack()
        uri = native.info.artifact_uri or ""
        parts = urlsplit(uri)
        self._is_local = parts.scheme in ("", "file")
        self._folder = (
            self._local_folder(store, Path(unquote(parts.path) if parts.scheme else uri)) if self._is_local else None
        )
        self._download_folder = ""
        self._paths: list[str] = []

    def __enter__(self) -> Artifacts:
        self._download_folder = self._undo.enter_context(tempfile.TemporaryDirectory(prefix="tracelet-"))
        try:
            self._paths = sorted(self._listed())
        except BackendError as error:
            self._run.damaged(f"artifacts cannot be read: {error.reason}")
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def exact_params(self) -> dict[str, Any]:
        """Return the parameters of a run that tracelet wrote, with their types."""
        values = self._json(_PARAMS) if _PARAMS in self._paths else None
        return values if isinstance(values, dict) else {}

    def records(self, started: float) -> Iterator[Record]:
        """Yield a record for each image and table, and an artifact for each other file."""
        tables = self._table_paths()
        for path in self._paths:
            image = _IMAGE.fullmatch(path)
            if image and image[4]:  # the small copy of another image
                continue
            if image:
                yield from self._image(path, image)
            elif path in tables and (table := self._table(path)) is not None:
                name = self._name_of(path.removesuffix(".json"))
                yield Table(name, table, None, started)
            else:
                yield from self._artifact(path, started)

    def _image(self, path: str, match: re.Match[str]) -> Iterator[Record]:
        data = self._read(path)
        if data is None:
            return
        key = match[1].replace("~", "/").replace("#", "/")
        width, height = (int.from_bytes(data[at : at + 4], "big") if data[:8] == _PNG else 0 for at in (16, 20))
        wall_time = int(match[3]) / 1000
        yield Image(self._name_of(key), data, match[5], width, height, int(match[2]), wall_time)

    def _table(self, path: str) -> bytes | None:
        """Return the table in a file of `log_table`; None if it has another form."""
        content = self._json(path)
        try:
            return media.table([str(name) for name in content["columns"]], content["data"])
        except (KeyError, TypeError, TraceletError):
            return None

    def _table_paths(self) -> set[str]:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entries = json.loads(self._native.data.tags.get(_TABLES, "[]"))
            return {entry["path"] for entry in entries if entry["type"] == "table"}
        return set()

    def _artifact(self, path: str, started: float) -> Iterator[Record]:
        with self._on_disk(path) as found:
            if found is not None:
                yield Artifact(path, (File(Path(path).name, "", 0, str(found)),), started)

    def _json(self, path: str) -> Any:
        data = self._read(path)
        with contextlib.suppress(ValueError):
            return None if data is None else json.loads(data)
        return None

    def _read(self, path: str) -> bytes | None:
        with self._on_disk(path) as found:
            if found is None:
                return None
            try:
                with open(found, "rb", opener=no_follow) as file:
                    return file.read()
            except OSError as error:
                self._run.damaged(f"{path}: cannot be read: {error.strerror}")
                return None

    @contextlib.contextmanager
    def _on_disk(self, path: str) -> Iterator[Path | None]:
        """Yield the file's path; None if it cannot be downloaded. A download is deleted at the end."""
        if self._folder is not None:
            yield self._folder / path
            return
        try:
            with translated():
                found = Path(self._client.download_artifacts(self._native.info.run_id, path, self._download_folder))
        except BackendError as error:
            self._run.damaged(f"{path}: cannot be downloaded: {error.reason}")
            yield None
            return
        yield found
        found.unlink(missing_ok=True)

    def _local_folder(self, store: OpenStore, named: Path) -> Path | None:
        """Return the folder of a run's files; None, reported, if the store names another or a missing one."""
        run_id, experiment = str(self._native.info.run_id), str(self._native.info.experiment_id)
        is_own = named.parts[-2:] == (run_id, "artifacts")
        if is_own and named.is_dir():
            return named
        if store.folder is not None and Path(experiment).name == experiment:  # a store that was moved
            moved = store.folder / experiment / run_id / "artifacts"
            if moved.is_dir():
                return moved
        if not is_own:
            self._run.damaged(f"artifacts are not read: the folder {named} is not one of this run")
        elif _TABLES in self._native.data.tags or _IMAGES in self._native.data.tags:
            self._run.damaged(f"artifacts are not read: there is no folder {named}")
        return None

    def _listed(self) -> Iterator[str]:
        if not self._is_local:
            yield from self._listed_by_server("")
        elif self._folder is not None:
            for path in self._folder.rglob("*"):
                name = path.relative_to(self._folder).as_posix()
                if path.is_symlink():
                    self._run.damaged(f"{name}: skipped, because it is a link")
                elif path.is_file():
                    yield name

    def _listed_by_server(self, folder: str) -> Iterator[str]:
        with translated():
            entries = self._client.list_artifacts(self._native.info.run_id, folder or None)
        for entry in entries:
            if ".." in PurePosixPath(entry.path).parts:
                self._run.damaged(f"{entry.path}: outside of the run's folder")
            elif entry.is_dir:
                yield from self._listed_by_server(entry.path)
            else:
                yield entry.path
