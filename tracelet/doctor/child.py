"""The process that runs one check of the doctor."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from tracelet.backends import backend_class, configured, disable_telemetry, native_capture, probe, secrets_of
from tracelet.backends.capabilities import Probe
from tracelet.capture.series import SeriesNames
from tracelet.capture.tensorboard.foreign_patches import other_patches
from tracelet.capture.tensorboard.interceptor import SummaryWriterInterceptor
from tracelet.doctor.protocol import AboutBackend, AboutWriter, BackendAnswer, Question, WriterAnswer
from tracelet.errors import ConfigurationError
from tracelet.guard import Guard
from tracelet.records import KINDS, Record, Scalar, kind
from tracelet.redaction import Secrets, redacted_url

T = TypeVar("T")

_TAG = "tracelet/doctor"


def main() -> None:
    """Answer the question on standard input, and exit without vendors' exit hooks."""
    channel = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    question: Question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    if isinstance(question, AboutBackend):
        disable_telemetry(question.name)
    answer = about_backend(question) if isinstance(question, AboutBackend) else about_writer(question)
    os.write(channel, msgspec.json.encode(answer))
    os._exit(0)


def about_backend(question: AboutBackend) -> BackendAnswer:
    """Import the backend's package, create the backend, and probe it within the timeout of the question."""
    secrets = Secrets()
    guard = Guard(secrets.hide)
    cls, error = _attempt(guard, backend_class, question.name)
    if cls is None:
        detail = str(error) if isinstance(error, ConfigurationError) else f"cannot load its class: {_format(error)}"
        return BackendAnswer(ok=False, detail=detail)
    shown_as = cls.accepts if isinstance(cls.accepts, Mapping) else {}
    locations = {
        kind(record_type): shown_as.get(record_type, "") for record_type in KINDS if record_type in cls.accepts
    }
    answer = BackendAnswer(
        ok=False,
        detail="",
        places=locations,
        filtered=tuple(kind(record_type) for record_type in KINDS if record_type not in cls.accepts),
    )
    if question.package is not None:
        _, error = _attempt(guard, importlib.import_module, question.package)
        if error is not None:
            return replace(answer, detail=f"import {question.package} failed: {_format(error)}")
    try:
        backend = configured(cls, question.config)
    except ConfigurationError as invalid:
        return replace(answer, detail=str(invalid))
    _attempt(guard, lambda: secrets.add(secrets_of(backend)))
    found = _within(question.timeout, guard, lambda: probe(backend))
    own, _ = _attempt(guard, native_capture, cls)
    return replace(
        answer,
        ok=found.ok,
        detail=secrets.hide(redacted_url(" ".join(found.detail.split()))),
        reachable=found.reachable,
        signed_in=found.signed_in,
        own_capture=own,
    )


def about_writer(question: AboutWriter) -> WriterAnswer:
    """Patch the writer as a run does, and check that a record of it arrives."""
    records: list[Record] = []
    guard = Guard()
    interceptor = SummaryWriterInterceptor(records.append, SeriesNames(None, lambda key, value: None), guard)
    interceptor.install()
    _, error = _attempt(guard, _write, question)
    if error is not None:
        return WriterAnswer(ok=False, detail=f"{question.module} failed: {_format(error)}")
    arrived = any(isinstance(record, Scalar) and record.tag == _TAG for record in records)
    causes = ", ".join(guard.counts())
    detail = "captured" if arrived else f"its records are not captured{f': {causes}' if causes else ''}"
    return WriterAnswer(ok=arrived, detail=detail, others=tuple(other_patches()))


def _write(question: AboutWriter) -> None:
    module = importlib.import_module(question.module)
    with module.SummaryWriter(question.folder) as writer:
        writer.add_scalar(_TAG, 0.5, 1)


def _within(seconds: float, guard: Guard, probe: Callable[[], Probe]) -> Probe:
    """Return the outcome of a probe, or a failure if it takes longer than `seconds`."""
    outcome: list[tuple[Probe | None, Exception | None]] = []
    thread = threading.Thread(
        target=lambda: outcome.append(_attempt(guard, probe)), name="tracelet-doctor", daemon=True
    )
    thread.start()
    thread.join(seconds)
    if not outcome:
        return Probe(False, f"no answer within {seconds:g} s")
    result, error = outcome[0]
    return result if result is not None else Probe(False, _format(error))


def _attempt(guard: Guard, function: Callable[..., T], *args: Any) -> tuple[T | None, Exception | None]:
    """Return the result of a call, or its exception."""
    results: list[T] = []
    error = guard.attempt(lambda: results.append(function(*args)))
    return (results[0] if results else None), error


def _format(error: BaseException | None) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
