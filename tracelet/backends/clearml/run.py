"""Create, resume or borrow one ClearML task, write its files and fields, and end it."""

from __future__ import annotations

import atexit
import contextlib
import copy
import functools
import json
import shutil
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tracelet import records as r
from tracelet.backends.base import Status
from tracelet.backends.clearml import host, offline
from tracelet.backends.clearml.config import ClearmlConfig
from tracelet.backends.clearml.connection import NOT_CONFIGURED, Connection, failed, sign_in
from tracelet.backends.clearml.offline import Note
from tracelet.backends.environment import overridden
from tracelet.backends.patches import patched
from tracelet.backends.paths import shortened
from tracelet.backends.staging import stage
from tracelet.errors import BackendUnavailable

_DRAIN_TIMEOUT = 3.0
_DETECTION_TIMEOUT = 5.0
_MIN_NAME = 3


def start(config: ClearmlConfig, run: r.RunInfo, note: Note | None, undo: contextlib.ExitStack) -> OpenTask:
    """Use the program's own task if there is one; otherwise resume that of the note, or create one.

    `undo` restores the process.
    """
    clearml, folder = host.imported(), Path(run.folder)
    native = clearml.Task.current_task()
    if native is not None:
        server = None if clearml.Task.is_offline() else Connection(native.session, undo, ends=False)
        return OpenTask(native, folder, server, owned=False)
    is_offline, server, earlier = host.wants_offline(clearml, config.mode), None, None
    undo.enter_context(host.offline_mode(is_offline))
    if not is_offline:
        server = sign_in(config, undo)
        earlier = note.on_server if note is not None else None
        earlier = earlier if earlier is not None and server.has_task(earlier) else None
    elif note is not None and note.exists:  # also if the cache folder has changed
        session, earlier = Path(str(note.folder)), note.id
        offline.restore_description(session)
        undo.enter_context(overridden("CLEARML_CACHE_DIR", str(session.parent.parent)))
    native = _create(config, run, earlier, undo)
    if server is not None:  # abandon the task at exit if it was not closed: ClearML's hooks would wait for the server
        undo.callback(atexit.unregister, atexit.register(functools.partial(abandon, native)))
    return OpenTask(native, folder, server, owned=True)


def _create(config: ClearmlConfig, run: r.RunInfo, earlier: str | None, undo: contextlib.ExitStack) -> Any:
    """Call `Task.init` with the user's arguments, and prevent its effects on the program."""
    import clearml
    from clearml.binding.args import patch_argparse

    if config.auto_connect_arg_parser:
        patch_argparse()
    undo.enter_context(host.quiet(clearml))
    native: Any = None
    undo.callback(lambda: abandon(native or clearml.Task._Task__main_task))
    with patched(clearml.Task, "_random_seed", None), host.one_edit_lock(), host.own_task_in_each_rank(clearml.task):
        native = host.called_from_main(clearml.Task.init)(**_arguments(config, run, earlier))
        getattr(native, "_edit_lock", None)  # creates it
    if not isinstance(native, clearml.Task):  # ClearML's dummy task, if it is configured to work without a server
        native = None
        raise BackendUnavailable(f"clearml: {NOT_CONFIGURED}")
    native.set_initial_iteration(0)  # otherwise a continued task shifts every step
    hook = clearml.Task._Task__exit_hook
    # Off the main thread ClearML sets no signal handlers, but would restore some.
    if hook is not None and threading.current_thread() is not threading.main_thread():
        hook._org_handlers = {}
    undo.enter_context(host.fork_safe(native))
    return native


def _arguments(config: ClearmlConfig, run: r.RunInfo, earlier: str | None) -> dict[str, Any]:
    """Return the arguments of `Task.init`. If a value is missing, ClearML's default applies."""
    frameworks = config.auto_connect_frameworks
    chosen = frameworks if isinstance(frameworks, dict) else {}
    arguments = {
        "project_name": _long_enough(config.project or run.project, run.run_id),
        "task_name": _long_enough(config.task_name or run.name, run.run_id),
        "task_type": config.task_type,
        "tags": config.tags if config.tags is not None else [*run.tags, *_group_tag(run)] or None,
        "output_uri": config.output_uri,
        "continue_last_task": earlier or config.continue_last_task,
        "reuse_last_task_id": config.reuse_last_task_id or False,
        "auto_connect_frameworks": {**chosen, "tensorboard": False} if frameworks else False,
        "auto_connect_arg_parser": config.auto_connect_arg_parser,
        "auto_connect_streams": not run.is_past and config.auto_connect_streams,
        "auto_resource_monitoring": not run.is_past and config.auto_resource_monitoring,
    }
    return {name: value for name, value in arguments.items() if value is not None}


def _group_tag(run: r.RunInfo) -> list[str]:
    """Return the run's group as a tag: a task has no group."""
    return [f"group:{run.group}"] if run.group else []


def _long_enough(name: str | None, run_id: str) -> str | None:
    """Append the run id to a name of less than three letters, which a server would reject."""
    return name if not name or len(name.strip()) >= _MIN_NAME else f"{name} ({run_id})"


class OpenTask:
    """Write to a task and end it. `server` is None for an offline session; `owned` if tracelet created the task.

    Events bypass the task, whose own queue holds five seconds of them in memory.
    """

    def __init__(self, native: Any, folder: Path, server: Connection | None, *, owned: bool) -> None:
        self.native, self.id, self.server, self.owned = native, str(native.id), server, owned
        self._folder = folder
        self._exact: dict[str, dict[str, Any]] = {}

    @property
    def session_folder(self) -> Path | None:
        """The folder of an offline session; None for a task on a server."""
        return None if self.server is not None else Path(str(self.native.get_offline_mode_folder()))

    def upload_medium(self, data: r.Payload, path: str) -> dict[str, str]:
        """Upload the bytes unchanged, and return the fields of an event that shows them."""
        from clearml import StorageManager

        base = str(self.native.get_logger().get_default_upload_destination() or "").rstrip("/")
        key = f"{self.native._get_output_destination_suffix('metrics')}/{path}"
        address = f"{base}/{key}"
        with self._staged(data, Path(address).name) as source:
            if self.server is None:
                Path(address).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(source, address)
            else:
                with self.server.raise_failures():
                    StorageManager.upload_file(str(source), address, wait_for_upload=True, retries=1)
        quoted = urllib.parse.quote(key) if base.startswith(("http://", "https://")) else key
        return {"key": key, "url": f"{base}/{quoted}"}

    def upload_artifact(self, name: str, data: r.Payload, metadata: Mapping[str, Any]) -> None:
        """Upload a file as an artifact with its path as name. The metadata have a path that is too long for a file."""
        items = metadata.items()
        texts = {str(key): value if isinstance(value, str) else json.dumps(value, default=str) for key, value in items}
        if shortened(name) != name:
            texts["name"], name = name, shortened(name)
        with self._staged(data, Path(name).name or "artifact") as source, self._editing():
            if not self.native.upload_artifact(name, str(source), metadata=texts, wait_on_upload=True):
                raise BackendUnavailable(f"clearml: the artifact {name!r} was not uploaded")

    def merge(self, name: str, values: Mapping[str, Any], params: dict[str, Any] | None = None) -> None:
        """Merge values into the JSON of the configuration object `name`, and `params` into the hyper-parameters.

        A new value replaces the old one of the same name.
        """
        if name not in self._exact:
            self._exact[name] = json.loads(self.native.get_configuration_object(name) or "{}")
        merged = self._exact[name] | dict(values)
        with self._editing():
            if params:
                self.native.update_parameters(params)
            self.native.set_configuration_object(name, config_text=json.dumps(merged), config_type="json")
        self._exact[name] = merged

    def add_tags(self, tags: Iterable[str]) -> None:
        current = list(self.native.data.tags or ())
        with self._editing():
            self.native.set_tags(list(dict.fromkeys([*current, *tags])))

    @contextlib.contextmanager
    def _staged(self, data: r.Payload, name: str) -> Iterator[Path]:
        """Copy or link the payload to a file called `name`, because ClearML uploads a file under its local name."""
        with tempfile.TemporaryDirectory(prefix="clearml-stage-", dir=self._folder) as folder:
            stage(data, Path(folder, name))
            yield Path(folder, name)

    @contextlib.contextmanager
    def _editing(self) -> Iterator[None]:
        """Lock the task's fields within a `with` block, and raise failed edits."""
        lock = self.native._edit_lock
        if lock.acquire(timeout=_DRAIN_TIMEOUT) is False:  # or it raises
            raise BackendUnavailable("clearml: the task is locked by another call that waits for the server")
        try:
            with self.server.raise_failures() if self.server is not None else contextlib.nullcontext():
                yield
            if self.session_folder is not None and self.owned:
                offline.save_description(self.session_folder)
        finally:
            lock.release()

    def close(self, status: Status, exit_code: int) -> None:
        """End the task, and stop ClearML's threads.

        Raises:
            BackendUnavailable: the server does not respond. The task is abandoned.
        """
        if self.native._at_exit_called:
            folder = self.session_folder  # the program closed the task, and its archive lacks later records
            if folder is not None and folder.with_suffix(".zip").exists():
                shutil.make_archive(str(folder), "zip", folder)
            return
        with host.kept_hooks(), self._exit_status(status, exit_code):
            try:
                if self.server is not None:
                    self.server.has_task(self.id)
            except BackendUnavailable:  # the task stays unfinished there
                abandon(self.native)
                raise
            _stop_detection(self.native, _DETECTION_TIMEOUT)
            if self._drain():
                self.native.close()
            else:  # `close` would wait for the threads without a limit
                task = self.native
                {"finished": task.mark_completed, "failed": task.mark_failed, "killed": task.stopped}[status]()
                abandon(self.native)
        if self.server is None:  # a late thread would retry for ever, once the process is no longer offline
            self.native._session = _ended_copy(self.native.session)
        # ClearML's lock file.
        Path(tempfile.gettempdir(), f"clearml_{self.id}.lock").unlink(missing_ok=True)

    def _drain(self) -> bool:
        """Make ClearML's threads send the program's own reports and end. Return whether they did in time."""
        deadline, threads = time.monotonic() + _DRAIN_TIMEOUT, _stop(self.native)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            return False
        self.native._reporter._report_service.send_all_events()  # reports since its thread ended
        return True

    @contextlib.contextmanager
    def _exit_status(self, status: Status, exit_code: int) -> Iterator[None]:
        """Make ClearML end the task with the run's status: completed, failed or stopped."""
        hook = type(self.native)._Task__exit_hook
        error = {"failed": RuntimeError(f"exit code {exit_code or 1}"), "killed": KeyboardInterrupt()}.get(status)
        with contextlib.ExitStack() as undo:
            for name, value in (("exception", error), ("exit_code", None), ("signal", None)):
                undo.enter_context(patched(hook, name, value))
            yield


def abandon(task: Any) -> None:
    """Drop ClearML's unsent data if there is no server, so that its exit hooks do not wait."""
    if task is None or task._at_exit_called:
        return
    cls = type(task)
    task._at_exit_called = True
    _stop_detection(task, 0.0)
    task._session = _ended_copy(task.session)
    if task._dev_worker is not None:
        task._dev_worker.unregister()
    if task._resource_monitor is not None:
        task._resource_monitor._event.set()  # its `stop` waits for the thread, which may wait for the server
    task._dev_worker = task._resource_monitor = None
    _stop(task)
    task._reporter._report_service = None
    handler = getattr(task._logger, "_task_handler", None)
    if handler is not None:
        handler._task_id = handler._background_log = None
    with host.kept_hooks():
        cls._Task__register_at_exit(None)
        cls._remove_signal_hooks()
        cls._remove_exception_hooks()
    if cls._Task__main_task is task:
        cls._Task__main_task = cls._Task__forked_proc_main_pid = None


def _ended_copy(session: Any) -> Any:
    """Return a copy of the session, for a late thread. All its requests fail because the session has ended."""
    ended = copy.copy(session)
    ended.send = failed
    return ended


def _stop_detection(task: Any, timeout: float) -> None:
    """Wait up to `timeout` for ClearML's scan of the repository, and then detach its thread.

    ClearML itself would raise an exception in the thread. If the thread is parsing a file then, the interpreter's
    parser stays broken for every thread.
    """
    thread = task._detect_repo_async_thread
    if thread is not None:
        thread.join(timeout)
        task._detect_repo_async_thread = None


def _stop(task: Any) -> list[threading.Thread]:
    """Make ClearML's two senders, for events and for the console, flush and end; return their threads."""
    log = getattr(getattr(task._logger, "_task_handler", None), "_background_log", None)
    services = [service for service in (task._reporter._report_service, log) if service is not None]
    for service in services:
        service._event.set()
        (service._flush_event if hasattr(service, "_flush_event") else service._flush).set()
    return [service._thread for service in services if isinstance(service._thread, threading.Thread)]
