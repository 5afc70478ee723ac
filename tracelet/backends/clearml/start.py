"""Use the program's own task, resume an earlier one, or create a new one."""

from __future__ import annotations

import atexit
import contextlib
import functools
import threading
from pathlib import Path
from typing import Any

from tracelet.backends.clearml import environment, forks, http_sessions, process_hooks
from tracelet.backends.clearml.config import ClearmlConfig
from tracelet.backends.clearml.connection import Connection, connect
from tracelet.backends.clearml.environment import Server
from tracelet.backends.clearml.offline_session import Note
from tracelet.backends.clearml.task import abandon, restore_description
from tracelet.errors import BackendUnavailable
from tracelet.records import RunInfo

_MIN_NAME = 3


class TaskStart:
    """Set `native`, `connection` and `owned`; `undo` restores the process.

    `connection` is None for an offline session. `owned` is False for the program's own task.
    """

    def __init__(
        self, clearml: Any, config: ClearmlConfig, run: RunInfo, note: Note | None, undo: contextlib.ExitStack
    ) -> None:
        self._clearml, self._config, self._run, self._note, self._undo = clearml, config, run, note, undo
        self.connection: Connection | None = None
        self.native = clearml.Task.current_task()
        self.owned = self.native is None
        if self.owned:
            self._create()
        else:
            self._adopt()

    def _create(self) -> None:
        """Call `Task.init` with the user's arguments, and prevent its effects on the program."""
        clearml, undo = self._clearml, self._undo
        offline = environment.wants_offline(clearml, self._config.mode)
        undo.enter_context(environment.offline_mode(offline))
        if offline:
            undo.enter_context(process_hooks.no_update_check())
            self._find_session()
        else:
            self.connection = sign_in(self._config.server, undo)
        if self._config.auto_connect_arg_parser:
            process_hooks.capture_arguments()
        for patch in (
            process_hooks.reduced_output(clearml),
            process_hooks.logs_on_stderr(),
            process_hooks.report_by_thread(clearml),
        ):
            undo.enter_context(patch)
        created: list[Any] = []
        undo.callback(_abandon, clearml, created)
        with process_hooks.kept_random_state(clearml), process_hooks.one_edit_lock(clearml):
            native = process_hooks.called_from_main(clearml.Task.init)(**self._arguments())
            native._edit_lock  # noqa: B018 - a property, which creates it
        if not isinstance(native, clearml.Task):  # ClearML's dummy task, if it is configured to work without a server
            raise BackendUnavailable(f"clearml: {environment.not_configured()}")
        created.append(native)
        native.set_initial_iteration(0)  # otherwise a continued task shifts every step
        _forget_handlers(clearml)
        forks.patch_fork(native)
        undo.callback(forks.unpatch_fork, native)
        self.native = native
        self._register_exit()

    def _find_session(self) -> None:
        """Use the folder of an earlier process's session, even if the cache folder has changed."""
        if self._note is not None and self._note.exists:
            folder = Path(str(self._note.folder))
            restore_description(folder)
            variables = {"CLEARML_CACHE_DIR": str(folder.parent.parent)}
            self._undo.enter_context(environment.temporary_variables(variables))

    def _adopt(self) -> None:
        """Write to the program's own task, with the server and keys of its session."""
        if self._clearml.Task.is_offline():
            return
        session = self.native.session
        self.connection = connect(Server(session.host, None, None, session.access_key, session.secret_key))
        self._undo.enter_context(self.connection.replace_send(session, ends=False))

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments of `Task.init`. If a value is missing, ClearML's default applies."""
        config, run = self._config, self._run
        frameworks = config.auto_connect_frameworks
        if frameworks:
            frameworks = {**(frameworks if isinstance(frameworks, dict) else {}), "tensorboard": False}
        arguments = {
            "project_name": _long_enough(config.project or run.project, run.run_id),
            "task_name": _long_enough(config.task_name or run.name, run.run_id),
            "task_type": config.task_type,
            "tags": config.tags if config.tags is not None else list(run.tags) or None,
            "output_uri": config.output_uri,
            "continue_last_task": self._earlier_task() or config.continue_last_task,
        }
        return {name: value for name, value in arguments.items() if value is not None} | {
            "reuse_last_task_id": config.reuse_last_task_id or False,
            "auto_connect_frameworks": frameworks,
            "auto_connect_arg_parser": config.auto_connect_arg_parser,
            "auto_connect_streams": config.auto_connect_streams,
            "auto_resource_monitoring": config.auto_resource_monitoring,
        }

    def _earlier_task(self) -> str | None:
        """Return the id of the task to resume; None if it was deleted or is of the other mode."""
        note = self._note
        if note is None:
            return None
        if self.connection is None:
            return note.id if note.exists else None
        id = note.on_server
        return id if id is not None and self.connection.has_task(id) else None

    def _register_exit(self) -> None:
        """Abandon the task at exit if it was not closed, so that ClearML's hooks do not wait for a dead server."""
        if self.connection is not None:
            abandon_task = functools.partial(abandon, self._clearml, self.native)
            atexit.register(abandon_task)
            self._undo.callback(atexit.unregister, abandon_task)


def sign_in(server: Server, undo: contextlib.ExitStack) -> Connection:
    """Sign in, and make ClearML's objects of this thread use the connection until `undo`.

    Raises:
        BackendUnavailable: the server is unreachable, or the keys are missing or wrong.
    """
    undo.enter_context(environment.temporary_variables(server.hosts()))
    connection = connect(server)
    session, created = http_sessions.default_session(server)
    undo.enter_context(http_sessions.as_default(session))
    undo.enter_context(connection.replace_send(session, ends=created))
    return connection


def _abandon(clearml: Any, created: list[Any]) -> None:
    """Abandon the task if it was not closed, even if its creation failed half-way."""
    native = created[0] if created else clearml.Task._Task__main_task
    if native is not None:
        abandon(clearml, native)


def _forget_handlers(clearml: Any) -> None:
    """Clear the handlers to restore: off the main thread ClearML sets no signal handlers, but would restore some."""
    hook = clearml.Task._Task__exit_hook
    if hook is not None and threading.current_thread() is not threading.main_thread():
        hook._org_handlers = {}


def _long_enough(name: str | None, run_id: str) -> str | None:
    """Append the run id to a name of less than three letters, which a server would reject."""
    return name if not name or len(name.strip()) >= _MIN_NAME else f"{name} ({run_id})"
