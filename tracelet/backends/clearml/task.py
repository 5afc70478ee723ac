"""Write files, parameters and tags to one ClearML task, and end the task."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tracelet.backends.base import Status
from tracelet.backends.clearml import process_hooks
from tracelet.backends.clearml.connection import Connection, ended_copy
from tracelet.backends.clearml.offline_session import DESCRIPTION
from tracelet.backends.clearml.uploads import Uploads
from tracelet.backends.clearml.values import EXACT_PARAMS, EXACT_SUMMARY, parameters
from tracelet.backends.paths import shortened
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.filesystem import replacing
from tracelet.records import File, Payload

_COPY = f"tracelet-{DESCRIPTION}"
_DRAIN_TIMEOUT = 3.0
_DETECTION_TIMEOUT = 5.0


class OpenTask:
    """Write to a task and end it. `connection` is None for an offline session; `owned` if tracelet created the task.

    Events bypass the task, whose own queue holds five seconds of them in memory.
    """

    def __init__(self, clearml: Any, native: Any, folder: Path, connection: Connection | None, *, owned: bool) -> None:
        self.native = native
        self.id = str(native.id)
        self.owned = owned
        self._clearml = clearml
        self._folder = folder
        self._connection = connection
        self.uploads = Uploads()
        self._exact: dict[str, dict[str, Any]] = {}
        self._stage = itertools.count()

    @property
    def session_folder(self) -> Path | None:
        """The folder of an offline session; None for a task on a server."""
        return None if self._connection is not None else Path(str(self.native.get_offline_mode_folder()))

    @property
    def closed_by_program(self) -> bool:
        return bool(self.native._at_exit_called)

    def upload_medium(self, data: Payload, path: str) -> dict[str, str]:
        """Upload the bytes unchanged, and return the fields of an event that shows them."""
        base = self._destination.rstrip("/")
        key = f"{self.native._get_output_destination_suffix('metrics')}/{path}"
        with self._staged(data, Path(path).name) as source:
            self._upload(source, f"{base}/{key}")
        quoted = urllib.parse.quote(key) if base.startswith(("http://", "https://")) else key
        return {"key": key, "url": f"{base}/{quoted}"}

    @property
    def _destination(self) -> str:
        return str(self.native.get_logger().get_default_upload_destination() or "")

    def _upload(self, source: Path, url: str) -> None:
        if self._connection is None:
            Path(url).parent.mkdir(parents=True, exist_ok=True)
            draft = Path(f"{url}.new")
            shutil.copyfile(source, draft)
            os.replace(draft, url)  # a kill leaves the whole file or none
            return
        self._check_server()
        with self.uploads.fail_fast(url):
            self._clearml.StorageManager.upload_file(str(source), url, wait_for_upload=True, retries=1)

    def upload_artifact(self, name: str, data: Payload, metadata: Mapping[str, Any]) -> None:
        """Upload a file as an artifact with its path as name. The metadata have a path that is too long for a file."""
        texts = {str(key): _to_text(value) for key, value in metadata.items()}
        if shortened(name) != name:
            texts["name"], name = name, shortened(name)
        self._check_server()
        with self._staged(data, Path(name).name or "artifact") as source, self._editing():
            arguments = {"artifact_object": str(source), "metadata": texts, "wait_on_upload": True}
            with self.uploads.fail_fast(str(self.native.output_uri or self._destination)):
                is_uploaded = self.native.upload_artifact(name, **arguments)
            if not is_uploaded:
                raise BackendUnavailable(f"clearml: the artifact {name!r} was not uploaded")

    def set_params(self, values: Mapping[str, Any]) -> None:
        """Merge parameters into those of the task. A new value replaces the old one of the same name."""
        with self._merging(EXACT_PARAMS, values):
            self.native.update_parameters(parameters(dict(values)))

    def set_summary(self, values: Mapping[str, Any]) -> None:
        """Merge summary values into those of the task."""
        with self._merging(EXACT_SUMMARY, values):
            pass

    @contextlib.contextmanager
    def _merging(self, name: str, values: Mapping[str, Any]) -> Iterator[None]:
        """Merge the exact values, as JSON, into the configuration object `name` after the `with` block."""
        if name not in self._exact:
            self._exact[name] = json.loads(self.native.get_configuration_object(name) or "{}")
        merged = self._exact[name] | dict(values)
        with self._editing():
            yield
            self.native.set_configuration_object(name, config_text=json.dumps(merged), config_type="json")
        self._exact[name] = merged

    def add_tags(self, tags: Iterable[str]) -> None:
        current = list(self.native.data.tags or ())
        with self._editing():
            self.native.set_tags(list(dict.fromkeys([*current, *tags])))

    def _check_server(self) -> None:
        """Raise if the server does not respond: ClearML's uploads retry for many minutes."""
        if self._connection is not None and not self._connection.alive():
            raise BackendUnavailable("clearml: the server does not respond")

    @contextlib.contextmanager
    def _staged(self, data: Payload, name: str) -> Iterator[Path]:
        """Copy or link the payload to a file called `name`, because ClearML uploads a file under its local name."""
        folder = self._folder / f"clearml-stage-{os.getpid()}-{next(self._stage)}"
        folder.mkdir(mode=0o700)
        path = folder / name
        try:
            _link_or_copy(data, path)
            yield path
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _editing(self) -> Iterator[None]:
        """Lock the task's fields within a `with` block, and raise failed edits."""
        lock = self.native._edit_lock
        if not _acquire(lock):
            raise BackendUnavailable("clearml: the task is locked by another call that waits for the server")
        try:
            with self._connection.raise_failures() if self._connection is not None else contextlib.nullcontext():
                yield
            self.save_description()
        finally:
            lock.release()

    def save_description(self) -> None:
        """Copy an offline session's description: a kill during an edit may destroy the original."""
        folder = self.session_folder
        if folder is None or not self.owned or not (folder / DESCRIPTION).exists():
            return
        data = (folder / DESCRIPTION).read_bytes()
        with contextlib.suppress(ValueError):  # a thread of ClearML is writing it now
            json.loads(data)
            with replacing(folder / _COPY) as file:
                file.write(data)

    def close(self, status: Status, exit_code: int) -> None:
        """End the task, and stop ClearML's threads.

        Raises:
            BackendUnavailable: the server does not respond. The task is abandoned.
        """
        if self.closed_by_program:
            self._update_zip()
            return
        with process_hooks.kept_hooks(), _exit_status(self._clearml, status, exit_code):
            if self._connection is not None and not self._connection.alive():
                abandon(self._clearml, self.native)
                raise BackendUnavailable("clearml: the server does not respond, so the task stays unfinished there")
            _stop_detection(self.native, _DETECTION_TIMEOUT)
            if self._drain():
                self.native.close()
            else:  # `close` would wait for the threads without a limit
                self._send_status(status)
                abandon(self._clearml, self.native)
        if self._connection is None:  # a late thread would retry for ever, once the process is no longer offline
            self.native._session = ended_copy(self.native.session)
        self._remove_lock()

    def _drain(self) -> bool:
        """Make ClearML's threads send the program's own reports and end. Return whether they did in time."""
        deadline = time.monotonic() + _DRAIN_TIMEOUT
        services = _services(self.native)
        _stop(services)
        for service in services:
            if isinstance(service._thread, threading.Thread):
                service._thread.join(max(0.0, deadline - time.monotonic()))
        if any(isinstance(service._thread, threading.Thread) and service._thread.is_alive() for service in services):
            return False
        self.native._reporter._report_service.send_all_events()  # reports since its thread ended
        return True

    def _send_status(self, status: Status) -> None:
        """Set the final status on the server, with the connection's short timeout."""
        task = self.native
        {"finished": task.mark_completed, "failed": task.mark_failed, "killed": task.stopped}[status]()

    def _remove_lock(self) -> None:
        """Remove ClearML's lock file from the system's temporary folder."""
        Path(tempfile.gettempdir(), f"clearml_{self.id}.lock").unlink(missing_ok=True)

    def _update_zip(self) -> None:
        """Zip a session again that the program closed: its archive lacks later records."""
        folder = self.session_folder
        if folder is not None and process_hooks.folder_size(folder) <= process_hooks.ZIP_LIMIT:
            shutil.make_archive(str(folder), "zip", folder)


def abandon(clearml: Any, task: Any) -> None:
    """Drop ClearML's unsent data if there is no server, so that its exit hooks do not wait."""
    if task._at_exit_called:
        return
    cls = clearml.Task
    task._at_exit_called = True
    _stop_detection(task, 0.0)
    task._session = ended_copy(task.session)
    if task._dev_worker is not None:
        task._dev_worker.unregister()
    if task._resource_monitor is not None:
        task._resource_monitor._event.set()  # its `stop` waits for the thread, which may wait for the server
    task._dev_worker = task._resource_monitor = None
    _stop(_services(task))
    task._reporter._report_service = None
    handler = getattr(task._logger, "_task_handler", None)
    if handler is not None:
        handler._task_id = handler._background_log = None
    with process_hooks.kept_hooks():
        cls._Task__register_at_exit(None)
        cls._remove_signal_hooks()
        cls._remove_exception_hooks()
    if cls._Task__main_task is task:
        cls._Task__main_task = cls._Task__forked_proc_main_pid = None


def _stop_detection(task: Any, timeout: float) -> None:
    """Wait up to `timeout` for ClearML's scan of the repository, and then detach its thread.

    ClearML itself would raise an exception in the thread. If the thread is parsing a file then, the interpreter's
    parser stays broken for every thread.
    """
    thread = task._detect_repo_async_thread
    if thread is not None:
        thread.join(timeout)
        task._detect_repo_async_thread = None


def _services(task: Any) -> list[Any]:
    """Return ClearML's two senders, for events and for the console."""
    log = getattr(getattr(task._logger, "_task_handler", None), "_background_log", None)
    return [service for service in (task._reporter._report_service, log) if service is not None]


def _stop(services: list[Any]) -> None:
    """Make the senders flush and end, after the current request."""
    for service in services:
        service._event.set()
        (service._flush_event if hasattr(service, "_flush_event") else service._flush).set()


@contextlib.contextmanager
def _exit_status(clearml: Any, status: Status, exit_code: int) -> Iterator[None]:
    """Make ClearML end the task with the run's status: completed, failed or stopped."""
    hook = clearml.Task._Task__exit_hook
    if hook is None:
        yield
        return
    before = hook.exception, hook.exit_code, hook.signal
    exceptions = {"failed": RuntimeError(f"exit code {exit_code or 1}"), "killed": KeyboardInterrupt()}
    hook.exception, hook.exit_code, hook.signal = exceptions.get(status), None, None
    try:
        yield
    finally:
        hook.exception, hook.exit_code, hook.signal = before


def restore_description(folder: Path) -> None:
    """Restore a session's description, left incomplete by a killed process, from its copy."""
    copy = folder / _COPY
    try:
        json.loads((folder / DESCRIPTION).read_bytes())
    except (ValueError, FileNotFoundError):
        if copy.exists():
            shutil.copyfile(copy, folder / DESCRIPTION)


def _acquire(lock: Any) -> bool:
    """Return whether the task's lock, of a thread or of a file, was acquired in time."""
    from clearml.utilities.locks.exceptions import LockException

    try:
        return lock.acquire(timeout=_DRAIN_TIMEOUT) is not False
    except LockException:
        return False


def _link_or_copy(data: Payload, path: Path) -> None:
    """Link or copy a payload to `path`.

    Raises:
        RecordRejected: its file is missing.
    """
    if not isinstance(data, File):
        path.write_bytes(data)
    elif not os.path.isfile(data.path):
        raise RecordRejected(f"clearml: the file {data.path!r} is missing")
    else:
        try:
            os.link(data.path, path)
        except OSError:
            shutil.copyfile(data.path, path)


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
