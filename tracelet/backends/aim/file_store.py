"""Store the files of a run in its artifacts folder, or in the run's own tree if a server has no reachable folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracelet import records as r
from tracelet.backends.aim.series import Query
from tracelet.backends.aim.values import earlier_name, file_stem, safe_path, to_plain
from tracelet.backends.paths import Paths
from tracelet.backends.presentation import files_of_run, record_files

_CHUNK = 4 * 1024 * 1024
"""Bytes in one message to a server. Its limit is 16 MiB if it was not started by `aim server`."""


class FileStore:
    """Store files so that they can be read back from the run.

    The run's tree describes each file in `tracelet/files/<name>`. If the run has no `artifacts_uri`, the bytes are in
    its series tree in `tracelet/<digest>`, in chunks.
    """

    def __init__(self, run: Any, uri: str | None, query: Query) -> None:
        self._run, self._query = run, query
        self._index = run.meta_run_tree.subtree(("tracelet", "files"))
        self._chunks = run.series_run_trees[1].subtree("tracelet")
        self._paths = Paths()
        for path in query(lambda: list(self._index.keys())):  # of an earlier process
            self._paths.assign(path, path)
        self._has_uri = uri is not None
        if uri is not None:
            run.set_artifacts_uri(uri)

    def put_artifact(self, artifact: r.Artifact) -> None:
        """Store the files of an artifact."""
        description = {"type": artifact.type, "metadata": to_plain(dict(artifact.metadata)), "artifact": artifact.name}
        for name, payload in files_of_run(artifact).items():
            path = self._paths.assign(name, safe_path(name))
            renamed = {} if path == name else {"file": to_plain(name)}
            self._put(path, payload, description | renamed | {"wall_time": artifact.wall_time})

    def put_files(self, record: Any) -> tuple[dict[str, str], dict[str, Any]]:
        """Store the files of a record without an Aim object. Return their paths by name, and its other fields."""
        payloads, facts = record_files(record)
        paths = {}
        for name, payload in payloads.items():
            path = f"tracelet/{r.kind(record)}/{file_stem(record.tag)}-{_digest(payload)[:12]}/{file_stem(name)}"
            self._put(path, payload, {"type": r.kind(record)})
            paths[name] = path
        return paths, facts

    def _put(self, name: str, payload: r.Payload, description: Mapping[str, Any]) -> None:
        digest = _digest(payload)
        earlier = self._find(name)
        if earlier is not None and earlier["digest"] == digest:
            return
        count = 0 if earlier is None else earlier["earlier"]
        if earlier is not None:  # the new file replaces it
            count += 1
            while self._find(earlier_name(name, count)) is not None:
                count += 1  # the program has a file of that name
            self._move(name, earlier_name(name, count), earlier)
        with _on_disk(payload) as path:
            size = os.path.getsize(path)
            if self._has_uri:
                self._run.log_artifact(path, name=name, block=True)
            else:
                self._put_chunks(path, digest)
        self._index[name] = {**description, "digest": digest, "size": size, "earlier": count}

    def _find(self, name: str) -> Any:
        return self._query(lambda: self._index.get(name, None))

    def _move(self, name: str, new_name: str, description: Mapping[str, Any]) -> None:
        if self._has_uri:
            artifact = self._run.meta_run_tree.subtree("artifacts")[name]
            with tempfile.TemporaryDirectory() as folder:
                self._run.log_artifact(artifact.download(folder), name=new_name, block=True)
        self._index[new_name] = {**description, "earlier": 0}

    def _put_chunks(self, path: str, digest: str) -> None:
        from aim.storage.types import BLOB

        with open(path, "rb") as file:
            number = 0
            while chunk := file.read(_CHUNK):
                self._chunks[digest, number] = BLOB(data=chunk)
                number += 1


@contextmanager
def _on_disk(payload: r.Payload) -> Iterator[str]:
    if isinstance(payload, r.File):
        yield payload.path
        return
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(payload)
        yield file.name


def _digest(payload: r.Payload) -> str:
    from hashlib import sha256

    return payload.digest if isinstance(payload, r.File) else sha256(payload).hexdigest()
