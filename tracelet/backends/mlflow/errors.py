"""Translate the exceptions of MLflow and its libraries into the two errors of a backend."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from tracelet.backends import exceptions
from tracelet.backends.exceptions import REJECTED, UNAVAILABLE, Translated, Verdict, verdict
from tracelet.errors import BackendError, BackendUnavailable, RecordRejected
from tracelet.redaction import redacted_url

# A staged file of a request is a copy, so a missing one proves nothing against the record.
_REQUESTS: Mapping[str, Verdict] = {"builtins.FileNotFoundError": UNAVAILABLE}
_REJECTION_STATUSES, _AUTH_STATUSES = (400, 413, 422), (401, 403)
_DELETED = "must be in the 'active' state"
_MAX_LENGTH = 500

converting = functools.partial(exceptions.translated, "mlflow", {}, record=True)
"""For a block that converts one record and stages its files."""


def translated(*, rejections: bool = False) -> Translated:
    """Raise only the errors of a backend within a block with requests.

    `rejections`: the server may reject the request, and accept a smaller part of it; otherwise that is an outage too.
    """

    def translate(error: Exception) -> BackendError | None:
        meaning = None if isinstance(error, BackendError) else verdict(error, "mlflow", _REQUESTS)
        if meaning is None:
            return None
        ours = error.__context__  # MLflow wraps what `Access` raises in the middle of a request
        if isinstance(ours, BackendUnavailable):
            return BackendUnavailable(ours.reason, retry_after=ours.retry_after)
        reason = f"mlflow: {_advice(error)}{_text(error)}"
        rejected = (meaning == REJECTED or _status(error) in _REJECTION_STATUSES) and _DELETED not in reason
        return (RecordRejected if rejections and rejected else BackendUnavailable)(reason)

    return Translated(translate)


def _status(error: Exception) -> int:
    """Return the HTTP status of an error; 0 if it has none."""
    code = getattr(getattr(error, "response", None), "status_code", 0)
    return int(code or getattr(error, "get_http_status_code", int)())


def is_auth_error(error: BaseException | None) -> bool:
    """Check if the server rejected the credentials, or needs some."""
    return isinstance(error, Exception) and _status(error) in _AUTH_STATUSES


def is_missing(error: Exception) -> bool:
    """Check if an MLflow error means that a run or experiment does not exist."""
    return getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"


def _advice(error: Exception) -> str:
    if is_auth_error(error):
        return "the server needs credentials (api_key, username and password, headers, or MLFLOW_TRACKING_...): "
    if "filesystem tracking backend" in str(error):
        return "MLflow no longer supports its file store; use sqlite:///mlflow.db, or a server: "
    if _DELETED in str(error):
        return "the run was deleted in MLflow (restore it with MlflowClient().restore_run): "
    return ""


def _text(error: Exception) -> str:
    text = " ".join(redacted_url(str(error) or type(error).__name__).split())
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"
