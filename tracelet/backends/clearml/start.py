"""How a task begins or goes on: the program's own, an earlier session's, or a new one."""

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
from tracelet.backends.clearml.task import abandon, mended
from tracelet.errors import BackendUnavailable
from tracelet.records import RunInfo

_SHORTEST_NAME = 3


class TaskStart:
    """`native`: the task. `connection`: None for an offline session. `owned`: it was begun here, now or earlier.

    What is changed in the process for it is undone by `undo`.
    """

    def __init__(
        self, clearml: Any, config: ClearmlConfig, run: RunInfo, note: Note | None, undo: contextlib.ExitStack
    ) -> None:
        self._clearml, self._config, self._run, self._note, self._undo = clearml, config, run, note, undo
        self.connection: Connection | None = None
        self.native = clearml.Task.current_task()
        self.owned = self.native is None
        if self.owned:
            self._begin()
        else:
            self._join()

    def _begin(self) -> None:
        """`Task.init` with what the user gave, and without what it does to the program."""
        clearml, undo = self._clearml, self._undo
        offline = environment.wants_offline(clearml, self._config.mode)
        undo.enter_context(environment.offline_mode(offline))
        if offline:
            undo.enter_context(process_hooks.no_update_check())
            self._find_session()
        else:
            self.connection = sign_in(self._config.server, undo)
        if self._config.auto_connect_arg_parser:
            process_hooks.catch_arguments()
        for settled in (
            process_hooks.quiet(clearml),
            process_hooks.logs_on_stderr(),
            process_hooks.in_this_process(clearml),
        ):
            undo.enter_context(settled)
        begun: list[Any] = []
        undo.callback(_let_go, clearml, begun)
        with process_hooks.kept_random_state(clearml):
            native = process_hooks.called_by_the_program(clearml.Task.init)(**self._wanted())
        if not isinstance(native, clearml.Task):  # ClearML's stand-in where it is told to do without a server
            raise BackendUnavailable(f"clearml: {environment.not_configured()}")
        begun.append(native)
        native.set_initial_iteration(0)  # a continued task would move every step
        _forget_handlers(clearml)
        forks.keep_out_of_children(native)
        undo.callback(forks.forget_children, native)
        self.native = native
        self._guard_exit()

    def _find_session(self) -> None:
        """Where an earlier process's session lies, whatever the cache folder is by now."""
        if self._note is not None and self._note.is_there:
            place = Path(str(self._note.folder))
            mended(place, Path(self._run.folder))
            self._undo.enter_context(environment.environment({"CLEARML_CACHE_DIR": str(place.parent.parent)}))

    def _join(self) -> None:
        """Write to the program's own task, with the session that it has signed in with."""
        if self._clearml.Task.is_offline():
            return
        session = self.native.session
        self.connection = connect(Server(session.host, None, None, session.access_key, session.secret_key))
        self._undo.enter_context(self.connection.stand_in(session, ends=False))

    def _wanted(self) -> dict[str, Any]:
        """The arguments of `Task.init`; what nobody gave keeps ClearML's own meaning."""
        config, run = self._config, self._run
        frameworks = config.auto_connect_frameworks
        if frameworks:
            frameworks = {**(frameworks if isinstance(frameworks, dict) else {}), "tensorboard": False}
        given = {
            "project_name": _long_enough(config.project or run.project, run.run_id),
            "task_name": _long_enough(config.task_name or run.name, run.run_id),
            "task_type": config.task_type,
            "tags": config.tags if config.tags is not None else list(run.tags) or None,
            "output_uri": config.output_uri,
            "continue_last_task": self._earlier() or config.continue_last_task,
        }
        return {name: value for name, value in given.items() if value is not None} | {
            "reuse_last_task_id": config.reuse_last_task_id or False,
            "auto_connect_frameworks": frameworks,
            "auto_connect_arg_parser": config.auto_connect_arg_parser,
            "auto_connect_streams": config.auto_connect_streams,
            "auto_resource_monitoring": config.auto_resource_monitoring,
        }

    def _earlier(self) -> str | None:
        """The task of an earlier process that can be gone on with: of the same kind, and not deleted."""
        note = self._note
        if note is None:
            return None
        if self.connection is None:
            return note.id if note.is_there else None
        id = note.on_server
        return id if id is not None and self.connection.has_task(id) else None

    def _guard_exit(self) -> None:
        """Should the end of the run not reach `close` in time, ClearML's exit hooks must not wait for a dead server."""
        if self.connection is not None:
            last_resort = functools.partial(abandon, self._clearml, self.native)
            atexit.register(last_resort)
            self._undo.callback(atexit.unregister, last_resort)


def sign_in(server: Server, undo: contextlib.ExitStack) -> Connection:
    """Until `undo`, ClearML's objects that this thread makes speak to `server` by a connection that does not wait.

    Raises:
        BackendUnavailable: nobody is there, or the keys are missing or wrong.
    """
    undo.enter_context(environment.environment(server.hosts()))
    connection = connect(server)
    session, made = http_sessions.default_session(server)
    undo.enter_context(http_sessions.default(session))
    undo.enter_context(connection.stand_in(session, ends=made))
    return connection


def _let_go(clearml: Any, begun: list[Any]) -> None:
    """A task that was begun, or half begun, and not ended properly is no longer the process's task."""
    native = begun[0] if begun else clearml.Task._Task__main_task
    if native is not None:
        abandon(clearml, native)


def _forget_handlers(clearml: Any) -> None:
    """On another thread ClearML can set no signal handlers, and at its end would still put back what it found."""
    hook = clearml.Task._Task__exit_hook
    if hook is not None and threading.current_thread() is not threading.main_thread():
        hook._org_handlers = {}


def _long_enough(name: str | None, run_id: str) -> str | None:
    """A server refuses names of less than three letters."""
    return name if not name or len(name.strip()) >= _SHORTEST_NAME else f"{name} ({run_id})"
