"""Translate the exceptions of MLflow and its libraries into `BackendUnavailable`, `RecordRejected` and `Rejected`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tracelet.backends.exceptions import REJECTED, UNAVAILABLE, Translated, Verdict, verdict
from tracelet.backends.http import THROTTLED, retry_after_seconds
from tracelet.errors import BackendError, BackendUnavailable, RecordRejected
from tracelet.redaction import redacted_url

# A staged file of a request is a copy, so a missing one proves nothing against the record.
_REQUESTS: Mapping[str, Verdict] = {"builtins.FileNotFoundError": UNAVAILABLE}
_REJECTION_STATUSES = (400, 413, 422)
_AUTH_STATUSES = (401, 403)
_DELETED = "must be in the 'active' state"
_MAX_LENGTH = 500

RetryAfter = Callable[[], "float | None"]


class Rejected(Exception):
    """The server rejected a request. It may accept a smaller part of it."""


def _unknown() -> None:
    return None


def translated(
    secrets: Sequence[str] = (), *, rejections: bool = False, retry_after: RetryAfter = _unknown
) -> Translated:
    """Raise only the errors of a backend, without `secrets` in their text.

    `rejections`: raise `Rejected` if the server rejects the request; otherwise that is an outage too. `retry_after`:
    called for the seconds to pause if the server throttles and the error does not contain them.
    """

    def translate(error: Exception) -> Exception | None:
        meaning = None if isinstance(error, BackendError) else verdict(error, "mlflow", _REQUESTS)
        if meaning is None:
            return None
        text = _text(error, secrets)
        if rejections and (_status(error) in _REJECTION_STATUSES or meaning == REJECTED) and _DELETED not in text:
            return Rejected(text)
        return BackendUnavailable(f"mlflow: {_advice(error)}{text}", retry_after=_retry_after(error, retry_after))

    return Translated(translate)


def converting() -> Translated:
    """Raise only the errors of a backend while a record is converted and its files are staged."""

    def translate(error: Exception) -> BackendError | None:
        meaning = None if isinstance(error, BackendError) else verdict(error, "mlflow", {})
        if meaning is None:
            return None
        return (RecordRejected if meaning == REJECTED else BackendUnavailable)(f"mlflow: {error}")

    return Translated(translate)


def _status(error: Exception) -> int:
    """Return the HTTP status of an error; 0 if it has none."""
    response = getattr(error, "response", None)
    if response is not None:
        return int(getattr(response, "status_code", 0) or 0)
    method = getattr(error, "get_http_status_code", None)
    return int(method()) if method is not None else 0


def _retry_after(error: Exception, probe: RetryAfter) -> float | None:
    """Return the seconds to pause.

    If MLflow would retry a response, its error contains only the status, so `probe` is called instead.
    """
    if _status(error) in THROTTLED:
        headers = getattr(getattr(error, "response", None), "headers", {})
        return retry_after_seconds(headers.get("Retry-After")) or probe()
    return probe() if any(f"too many {code} error responses" in str(error) for code in THROTTLED) else None


def is_auth_error(error: BaseException | None) -> bool:
    """Check if the server rejected the credentials, or needs some."""
    return isinstance(error, Exception) and _status(error) in _AUTH_STATUSES


def is_missing(error: Exception) -> bool:
    """Check if an MLflow error means that a run or experiment does not exist."""
    return getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"


def _advice(error: Exception) -> str:
    if _status(error) in _AUTH_STATUSES:
        return "the server needs credentials (api_key, username and password, headers, or MLFLOW_TRACKING_...): "
    if "filesystem tracking backend" in str(error):
        return "MLflow no longer supports its file store; use sqlite:///mlflow.db, or a server: "
    if _DELETED in str(error):
        return "the run was deleted in MLflow (restore it with MlflowClient().restore_run): "
    return ""


def _text(error: Exception, secrets: Sequence[str]) -> str:
    text = redacted_url(str(error) or type(error).__name__)
    for secret in secrets:
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"
