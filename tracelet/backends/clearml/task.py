"""The one ClearML task that records go to: the program's own, or one that is begun and ended here."""

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
from tracelet.backends.clearml.connection import Connection, ended
from tracelet.backends.clearml.offline_session import DESCRIPTION as _TASK
from tracelet.backends.clearml.uploads import Uploads
from tracelet.backends.clearml.values import EXACT_PARAMS, EXACT_SUMMARY, parameters
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.records import File, Payload

_LAST_WORD = 3.0
_DETECTION = 5.0


class OpenTask:
    """Files, parameters and the end of a task. `owned`: it was begun here. `connection`: None for an offline session.

    Not its events: those go past the task's own queue, which holds five seconds of them in memory.
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
        """Where an offline session lies; None for a task on a server."""
        return None if self._connection is not None else Path(str(self.native.get_offline_mode_folder()))

    @property
    def closed_by_the_program(self) -> bool:
        return bool(self.native._at_exit_called)

    # What it takes.

    def upload_medium(self, data: Payload, path: str) -> dict[str, str]:
        """Put the bytes, as they are, to the task's other media; the fields of an event that show them."""
        base = self._destination.rstrip("/")
        key = f"{self.native._get_output_destination_suffix('metrics')}/{path}"
        with self._staged(data, Path(path).name) as source:
            self._upload(source, f"{base}/{key}")
        address = urllib.parse.quote(key) if base.startswith(("http://", "https://")) else key
        return {"key": key, "url": f"{base}/{address}"}

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
        self._need_server()
        with self.uploads.hurried(url):
            self._clearml.StorageManager.upload_file(str(source), url, wait_for_upload=True, retries=1)

    def upload_artifact(self, name: str, data: Payload, metadata: Mapping[str, Any]) -> None:
        """A file as an artifact called by its path."""
        told = {str(key): _short(value) for key, value in metadata.items()}
        self._need_server()
        with self._staged(data, Path(name).name or "artifact") as source, self._edited():
            given = {"artifact_object": str(source), "metadata": told, "wait_on_upload": True}
            with self.uploads.hurried(str(self.native.output_uri or self._destination)):
                taken = self.native.upload_artifact(name, **given)
            if not taken:
                raise BackendUnavailable(f"clearml: the artifact {name!r} was not uploaded")

    def set_params(self, values: Mapping[str, Any]) -> None:
        """Merge: what was there stays, a name given again takes the new value."""
        with self._merged(EXACT_PARAMS, values):
            self.native.update_parameters(parameters(dict(values)))

    def set_summary(self, values: Mapping[str, Any]) -> None:
        """Merge, as `set_params` does."""
        with self._merged(EXACT_SUMMARY, values):
            pass

    @contextlib.contextmanager
    def _merged(self, name: str, values: Mapping[str, Any]) -> Iterator[None]:
        """Values of which the task keeps the exact last ones, as JSON in the configuration object `name`."""
        if name not in self._exact:
            self._exact[name] = json.loads(self.native.get_configuration_object(name) or "{}")
        merged = self._exact[name] | dict(values)
        with self._edited():
            yield
            self.native.set_configuration_object(name, config_text=json.dumps(merged), config_type="json")
        self._exact[name] = merged

    def add_tags(self, tags: Iterable[str]) -> None:
        held = list(self.native.data.tags or ())
        with self._edited():
            self.native.set_tags(list(dict.fromkeys([*held, *tags])))

    def _need_server(self) -> None:
        """ClearML's uploads try a dead server for many minutes."""
        if self._connection is not None and not self._connection.alive():
            raise BackendUnavailable("clearml: the server does not answer")

    @contextlib.contextmanager
    def _staged(self, data: Payload, name: str) -> Iterator[Path]:
        """The payload under a name of its own, since ClearML calls a file by its local name."""
        folder = self._folder / f"clearml-stage-{os.getpid()}-{next(self._stage)}"
        folder.mkdir(mode=0o700)
        path = folder / name
        try:
            _place(data, path)
            yield path
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _edited(self) -> Iterator[None]:
        """Change fields of the task, once whoever changes them now is done with it."""
        lock = self.native._edit_lock
        if not _acquired(lock):
            raise BackendUnavailable("clearml: the task is being edited, by a call that waits for the server")
        try:
            with self._connection.all_or_error() if self._connection is not None else contextlib.nullcontext():
                yield
            self.keep_description()
        finally:
            lock.release()

    def keep_description(self) -> None:
        """An offline session's description is rewritten at each edit; a kill in between must not cost all of it."""
        folder = self.session_folder
        if folder is None or not self.owned or not (folder / _TASK).exists():
            return
        data = (folder / _TASK).read_bytes()
        with contextlib.suppress(ValueError):  # ClearML's thread is at it, and will be done
            json.loads(data)
            draft = self._folder / f".{_TASK}.new"
            draft.write_bytes(data)
            os.replace(draft, self._folder / f"clearml-{_TASK}")

    # How it ends.

    def close(self, status: Status, exit_code: int) -> None:
        """End the task, and let ClearML go.

        Raises:
            BackendUnavailable: its server is gone; ClearML's threads and exit hooks are left without work.
        """
        if self.closed_by_the_program:
            self._zip_again()
            return
        with process_hooks.hooks_kept(), _ending(self._clearml, status, exit_code):
            if self._connection is not None and not self._connection.alive():
                abandon(self._clearml, self.native)
                raise BackendUnavailable("clearml: the server does not answer; the task's end is not told")
            _leave_detection(self.native, _DETECTION)
            if self._drained():
                self.native.close()
            else:  # `close` would wait for as long as they do
                self._tell(status)
                abandon(self._clearml, self.native)
        self._remove_lock()

    def _drained(self) -> bool:
        """Have ClearML's threads send what the program itself reported, and end; whether they did in time."""
        deadline = time.monotonic() + _LAST_WORD
        services = _services(self.native)
        _dismiss(services)
        for service in services:
            if isinstance(service._thread, threading.Thread):
                service._thread.join(max(0.0, deadline - time.monotonic()))
        if any(isinstance(one._thread, threading.Thread) and one._thread.is_alive() for one in services):
            return False
        self.native._reporter._report_service.send_all_events()  # what came as its thread ended
        return True

    def _tell(self, status: Status) -> None:
        """How it ended, by the connection that does not wait."""
        task = self.native
        {"finished": task.mark_completed, "failed": task.mark_failed, "killed": task.stopped}[status]()

    def _remove_lock(self) -> None:
        """ClearML leaves a file of its lock in the system's folder for temporary ones."""
        Path(tempfile.gettempdir(), f"clearml_{self.id}.lock").unlink(missing_ok=True)

    def _zip_again(self) -> None:
        """The archive of a session that the program closed lacks what came since."""
        folder = self.session_folder
        if folder is not None and process_hooks.folder_size(folder) <= process_hooks.ZIP_LIMIT:
            shutil.make_archive(str(folder), "zip", folder)


def abandon(clearml: Any, task: Any) -> None:
    """Without a server: give up what ClearML still holds, so that its exit hooks wait for nothing."""
    if task._at_exit_called:
        return
    cls = clearml.Task
    task._at_exit_called = True
    _leave_detection(task, 0.0)
    if task._dev_worker is not None:
        task._dev_worker.unregister()
    if task._resource_monitor is not None:
        task._resource_monitor._event.set()  # its `stop` waits for the thread, which may wait for the server
    task._dev_worker = task._resource_monitor = None
    _dismiss(_services(task))
    task._reporter._report_service = None
    handler = getattr(task._logger, "_task_handler", None)
    if handler is not None:
        handler._task_id = handler._background_log = None
    with process_hooks.hooks_kept():
        cls._Task__register_at_exit(None)
        cls._remove_signal_hooks()
        cls._remove_exception_hooks()
    if cls._Task__main_task is task:
        cls._Task__main_task = cls._Task__forked_proc_main_pid = None


def _leave_detection(task: Any, timeout: float) -> None:
    """Wait for ClearML's look at the repository, and leave it to itself after `timeout`. ClearML would throw an
    exception into its thread: while that parses a file, this leaves the interpreter's parser broken for every thread.
    """
    thread = task._detect_repo_async_thread
    if thread is not None:
        thread.join(timeout)
        if thread.is_alive():
            task._session = ended(task.session)
        task._detect_repo_async_thread = None


def _services(task: Any) -> list[Any]:
    """ClearML's two threads that send: events, and the console."""
    log = getattr(getattr(task._logger, "_task_handler", None), "_background_log", None)
    return [one for one in (task._reporter._report_service, log) if one is not None]


def _dismiss(services: list[Any]) -> None:
    """They send what they have and end, once they are back from the server."""
    for service in services:
        service._event.set()
        (service._flush_event if hasattr(service, "_flush_event") else service._flush).set()


@contextlib.contextmanager
def _ending(clearml: Any, status: Status, exit_code: int) -> Iterator[None]:
    """Let ClearML's own judgement of how the program ends be ours: completed, failed or stopped."""
    hook = clearml.Task._Task__exit_hook
    if hook is None:
        yield
        return
    before = hook.exception, hook.exit_code, hook.signal
    told = {"failed": RuntimeError(f"exit code {exit_code or 1}"), "killed": KeyboardInterrupt()}
    hook.exception, hook.exit_code, hook.signal = told.get(status), None, None
    try:
        yield
    finally:
        hook.exception, hook.exit_code, hook.signal = before


def mended(folder: Path, keep: Path) -> None:
    """A session's description that a killed process left half written, from the copy in the run's folder."""
    copy = keep / f"clearml-{_TASK}"
    try:
        json.loads((folder / _TASK).read_bytes())
    except (ValueError, FileNotFoundError):
        if copy.exists():
            shutil.copyfile(copy, folder / _TASK)


def _acquired(lock: Any) -> bool:
    """Whether the task's lock, of a thread or of a file, was to be had in time."""
    from clearml.utilities.locks.exceptions import LockException

    try:
        return lock.acquire(timeout=_LAST_WORD) is not False
    except LockException:
        return False


def _place(data: Payload, path: Path) -> None:
    """Link or copy a payload to `path`.

    Raises:
        RecordRejected: its file is gone.
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


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
