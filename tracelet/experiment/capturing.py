"""Create the interceptors of a run: one for each library whose calls are captured."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tracelet.capture.series import SeriesNames
from tracelet.capture.tensorboard.interceptor import SummaryWriterInterceptor
from tracelet.capture.trials import Trials
from tracelet.errors import ConfigurationError
from tracelet.guard import Guard
from tracelet.records import File, Record
from tracelet.settings import Settings

_HAS_OWN_RUN = ("wandb",)
"""Libraries that write to a store of their own, which a backend of the same name would duplicate."""


class Interceptor(Protocol):
    """Pass the calls of one library to a run, from `install` to `uninstall`."""

    def install(self) -> None: ...

    def drain(self, deadline: float) -> bool: ...

    def uninstall(self) -> None: ...


class Interceptors:
    """The interceptors of one run. Each is installed and removed with the others."""

    def __init__(self, interceptors: Sequence[Interceptor]) -> None:
        self._interceptors = interceptors

    def install(self) -> None:
        for interceptor in self._interceptors:
            interceptor.install()

    def drain(self, deadline: float) -> bool:
        """Wait until the records of earlier calls are submitted; False if `deadline` passes first."""
        drained = [interceptor.drain(deadline) for interceptor in self._interceptors]
        return all(drained)

    def uninstall(self) -> None:
        with contextlib.ExitStack() as stack:  # each, also if Ctrl-C interrupts one
            for interceptor in self._interceptors:
                stack.callback(interceptor.uninstall)


def interceptors(
    settings: Settings,
    submit: Callable[[Record], None],
    snapshot: Callable[[Path, str], File | None],
    series: SeriesNames,
    guard: Guard,
    trials: Trials,
) -> Interceptors:
    """Return the interceptors that `settings.capture` names. `snapshot(path, name)` stores a file in the run's spool.

    It returns None if the run cannot store the file, and raises OSError if it cannot be read.
    """
    found: list[Interceptor] = []
    if "tensorboard" in settings.capture:
        found.append(
            SummaryWriterInterceptor(
                submit, series, guard, trials=trials, events=settings.events, queue_bytes=settings.queue_bytes
            )
        )
    if "wandb" in settings.capture:
        from tracelet.capture.wandb.interceptor import WandbInterceptor  # only if chosen: `import tracelet` stays fast

        found.append(WandbInterceptor(submit, snapshot, series, guard))
    return Interceptors(found)


def check_capture(capture: Sequence[str], backends: Sequence[str]) -> None:
    """Reject a backend that would write the captured calls to the same service again.

    Raises:
        ConfigurationError: a captured library with runs of its own is also a backend.
    """
    twice = next((name for name in _HAS_OWN_RUN if name in capture and name in backends), None)
    if twice is not None:
        raise ConfigurationError(
            f"capture={twice!r} and backend={twice!r} together would send what the program logs to {twice} twice. "
            f"To have it in the program's own {twice} run and elsewhere, remove the backend {twice}; "
            f"to let tracelet write to {twice}, remove {twice} from capture: the program's calls then act on that run"
        )
