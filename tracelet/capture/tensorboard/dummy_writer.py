"""Build the events that tensorboardX's dummy FileWriter (`write_to_disk=False`) never builds."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from tracelet.guard import Guard

Method: TypeAlias = Callable[..., Any]
EventHandler: TypeAlias = Callable[[Any, Any, Any, Any], None]
"""Receives (file writer, event, step, wall time), as `FileWriter.add_event` does."""


class DummyWriters:
    """Wrap the dummy's methods; call `on_event` with the event that a FileWriter would have written."""

    def __init__(self, event_class: Any, guard: Guard, on_event: EventHandler) -> None:
        self._event_class, self._guard, self._on_event = event_class, guard, on_event

    def tee_summary(self, original: Method) -> Method:
        @functools.wraps(original)
        def add_summary(file_writer: Any, summary: Any, global_step: Any = None, walltime: Any = None) -> Any:
            result = original(file_writer, summary, global_step, walltime)
            self._guard.call(self._emit, file_writer, {"summary": summary}, global_step, walltime)
            return result

        return add_summary

    def tee_graph(self, original: Method) -> Method:
        @functools.wraps(original)
        def add_graph(file_writer: Any, graph_profile: Any, walltime: Any = None) -> Any:
            result = original(file_writer, graph_profile, walltime)
            self._guard.call(self._emit_graph, file_writer, graph_profile[0], walltime)
            return result

        return add_graph

    def tee_onnx(self, original: Method) -> Method:
        @functools.wraps(original)
        def add_onnx_graph(file_writer: Any, graph: Any, walltime: Any = None) -> Any:
            result = original(file_writer, graph, walltime)
            self._guard.call(self._emit_graph, file_writer, graph, walltime)
            return result

        return add_onnx_graph

    def _emit_graph(self, file_writer: Any, graph: Any, walltime: Any) -> None:
        self._emit(file_writer, {"graph_def": graph.SerializeToString()}, None, walltime)

    def _emit(self, file_writer: Any, content: dict[str, Any], step: Any, walltime: Any) -> None:
        event = self._event_class(**content)
        event.wall_time = time.time() if walltime is None else walltime
        if step is not None:
            event.step = int(step)
        self._on_event(file_writer, event, step, walltime)
