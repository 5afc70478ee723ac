"""Files of a run: below its artifacts folder, or, where a server has none that we can reach, in the run's own tree."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracelet.backends.aim.series import Ask
from tracelet.backends.aim.values import earlier_name, plain, safe_path, stem
from tracelet.backends.presentation import entries, files
from tracelet.records import Artifact, File, Payload, kind

_CHUNK = 4 * 1024 * 1024
"""Bytes in one message to a server, whose limit is 16 MiB where it was not started by `aim server`."""


class FileStore:
    """Puts files where the run can be asked for them.

    What is known of each stands in the run's tree under `tracelet/files/<name>`; the bytes of a run without an
    `artifacts_uri` in its series under `tracelet/<digest>`, in chunks.
    """

    def __init__(self, run: Any, uri: str | None, ask: Ask) -> None:
        self._run, self._ask = run, ask
        self._known = run.meta_run_tree.subtree(("tracelet", "files"))
        self._chunks = run.series_run_trees[1].subtree("tracelet")
        self._stored = uri is not None
        if uri is not None:
            run.set_artifacts_uri(uri)

    def put_artifact(self, artifact: Artifact) -> None:
        told = {"type": artifact.type, "metadata": plain(dict(artifact.metadata)), "artifact": artifact.name}
        for name, payload in entries(artifact).items():
            self._put(safe_path(name), payload, told | {"wall_time": artifact.wall_time})

    def keep(self, record: Any) -> tuple[dict[str, str], dict[str, Any]]:
        """The files of a record that Aim has no object for: what each is kept as; and the rest of what it says."""
        payloads, facts = files(record)
        kept = {}
        for name, payload in payloads.items():
            place = f"tracelet/{kind(record)}/{stem(record.tag)}-{_digest(payload)[:12]}/{stem(name)}"
            self._put(place, payload, {"type": kind(record)})
            kept[name] = place
        return kept, facts

    def _put(self, name: str, payload: Payload, told: Mapping[str, Any]) -> None:
        digest = _digest(payload)
        earlier = self._ask(lambda: self._known.get(name, None))
        if earlier is not None and earlier["digest"] == digest:
            return
        count = 0 if earlier is None else earlier["earlier"]
        if earlier is not None:  # the later takes its place
            count += 1
            self._move(name, earlier_name(name, count), earlier)
        with _on_disk(payload) as path:
            size = os.path.getsize(path)
            if self._stored:
                self._run.log_artifact(path, name=name, block=True)
            else:
                self._put_chunks(path, digest)
        self._known[name] = {**told, "digest": digest, "size": size, "earlier": count}

    def _move(self, name: str, place: str, told: Mapping[str, Any]) -> None:
        if self._stored:
            artifact = self._run.meta_run_tree.subtree("artifacts")[name]
            with tempfile.TemporaryDirectory() as folder:
                self._run.log_artifact(artifact.download(folder), name=place, block=True)
        self._known[place] = {**told, "earlier": 0}

    def _put_chunks(self, path: str, digest: str) -> None:
        from aim.storage.types import BLOB

        with open(path, "rb") as file:
            number = 0
            while chunk := file.read(_CHUNK):
                self._chunks[digest, number] = BLOB(data=chunk)
                number += 1


@contextmanager
def _on_disk(payload: Payload) -> Iterator[str]:
    if isinstance(payload, File):
        yield payload.path
        return
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(payload)
        yield file.name


def _digest(payload: Payload) -> str:
    from hashlib import sha256

    return payload.digest if isinstance(payload, File) else sha256(payload).hexdigest()
