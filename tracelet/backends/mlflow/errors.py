"""Translate the exceptions of MLflow and its libraries into `BackendUnavailable`, `RecordRejected` and `Rejected`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

from tracelet.backends.http import THROTTLED, retry_after_seconds
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.redaction import redacted_url

# Exceptions of artifact stores, used only if their modules are loaded.
_ARTIFACT_STORE_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("boto3.exceptions", "Boto3Error"),
    ("azure.core.exceptions", "AzureError"),
    ("google.api_core.exceptions", "GoogleAPIError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("paramiko.ssh_exception", "SSHException"),
)
_REJECTION_STATUSES = (400, 413, 422)
_AUTH_STATUSES = (401, 403)
_DELETED = "must be in the 'active' state"
_MAX_LENGTH = 500

RetryAfter = Callable[[], "float | None"]


class Rejected(Exception):
    """The server rejected a request. It may accept a smaller part of it."""


def _unknown() -> None:
    return None


@contextlib.contextmanager
def translated(
    secrets: Sequence[str] = (), *, rejections: bool = False, retry_after: RetryAfter = _unknown
) -> Iterator[None]:
    """Raise only the errors of a backend, without `secrets` in their text.

    `rejections`: raise `Rejected` if the server rejects the request; otherwise that is an outage too. `retry_after`:
    called for the seconds to pause if the server throttles and the error does not contain them.
    """
    try:
        yield
    except (BackendUnavailable, RecordRejected):
        raise
    except _error_classes() as error:
        text = _text(error, secrets)
        if rejections and _status(error) in _REJECTION_STATUSES and _DELETED not in text:
            raise Rejected(text) from error
        pause = _retry_after(error, retry_after)
        raise BackendUnavailable(f"mlflow: {_advice(error)}{text}", retry_after=pause) from error


def _error_classes() -> tuple[type[Exception], ...]:
    """Return MLflow's exceptions and those of its libraries.

    OSError includes all of requests. ImportError means a missing database driver.
    """
    from mlflow.exceptions import MlflowException

    stores = ((sys.modules[module], name) for module, name in _ARTIFACT_STORE_ERRORS if module in sys.modules)
    databases = [sys.modules["sqlalchemy.exc"].SQLAlchemyError] if "sqlalchemy.exc" in sys.modules else []
    return (MlflowException, OSError, ImportError, *databases, *(getattr(module, name) for module, name in stores))


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
