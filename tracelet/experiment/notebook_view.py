"""Show the run of an `Experiment` in a notebook."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from tracelet.errors import TraceletError

if TYPE_CHECKING:
    from tracelet.experiment.experiment import Experiment
    from tracelet.experiment.live import LiveView


class NotebookView:
    """Show state and curves of the run: once as a cell's last line, or live."""

    _live: LiveView | None = None

    def show(self, every: float = 2.0) -> None:
        """Show the run's curves below a notebook's cell, and update them until the run ends.

        A second call moves them to its cell. Another thread reads the journal; it uses at most a twentieth of a core.
        In an IPython terminal, print them once.

        Args:
            every: Seconds between two updates, at least 0.5.

        Raises:
            TraceletError: this is no notebook and no IPython, or `every` is too small.
        """
        experiment = cast("Experiment", self)
        if experiment._orchestrator is None:
            return
        if not every >= 0.5:
            raise TraceletError(f"show: every must be 0.5 seconds or more, got {every!r}")
        shell = _shell()
        if shell is None:
            raise TraceletError(
                f"show needs a notebook or IPython. Elsewhere, run: tracelet show {experiment.run_id} --html run.html"
            )
        from tracelet.experiment import live  # imported only in notebooks, as below

        if self._live is not None:
            self._live.cancel()
        self._live = live.show(experiment, every, has_frontend=getattr(shell, "kernel", None) is not None)

    def _repr_html_(self) -> str | None:
        """Return the HTML that a notebook shows for this object."""
        experiment = cast("Experiment", self)
        return experiment._guard.call(self._to_html)

    def _to_html(self) -> str:
        from tracelet.experiment.live import to_html

        return to_html(cast("Experiment", self))

    def _end_view(self) -> None:
        """Show the end of the run. Waits a second at most."""
        if self._live is not None:
            self._live.finish()


def _shell() -> Any:
    """Return IPython's shell, which Jupyter, VS Code and Colab have too; None in any other program."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()
