"""The two errors of a backend, for everything that MLflow and those below it raise."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

from tracelet.backends.addresses import redacted
from tracelet.backends.http import THROTTLED, retry_after_seconds
from tracelet.errors import BackendUnavailable, RecordRejected

# Those whose libraries store artifacts; asked for only where they are loaded anyway.
_CLOUDS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("boto3.exceptions", "Boto3Error"),
    ("azure.core.exceptions", "AzureError"),
    ("google.api_core.exceptions", "GoogleAPIError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("paramiko.ssh_exception", "SSHException"),
)
_REFUSED = (400, 413, 422)
_SIGN_IN = (401, 403)
_DELETED = "must be in the 'active' state"
_LONGEST = 500

Wait = Callable[[], "float | None"]


class Refused(Exception):
    """The server answered that it will not take this, in one piece at least."""


def _no_wait() -> None:
    return None


@contextlib.contextmanager
def translated(secrets: Sequence[str] = (), *, refusals: bool = False, wait: Wait = _no_wait) -> Iterator[None]:
    """`refusals`: what the server calls wrong in itself is `Refused`; elsewhere that too is an outage. `wait`: asks a
    server that throttles for how long, where the error does not say it."""
    try:
        yield
    except (BackendUnavailable, RecordRejected):
        raise
    except _names() as error:
        text = _text(error, secrets)
        if refusals and _status(error) in _REFUSED and _DELETED not in text:
            raise Refused(text) from error
        raise BackendUnavailable(f"mlflow: {_advice(error)}{text}", retry_after=_asked(error, wait)) from error


def _names() -> tuple[type[Exception], ...]:
    """MLflow's own, and what it lets through. OSError holds all of requests'; ImportError: a database's driver."""
    from mlflow.exceptions import MlflowException

    clouds = ((sys.modules[module], name) for module, name in _CLOUDS if module in sys.modules)
    databases = [sys.modules["sqlalchemy.exc"].SQLAlchemyError] if "sqlalchemy.exc" in sys.modules else []
    return (MlflowException, OSError, ImportError, *databases, *(getattr(module, name) for module, name in clouds))


def _status(error: Exception) -> int:
    """The HTTP status that an error stands for; 0 where it stands for none."""
    response = getattr(error, "response", None)
    if response is not None:
        return int(getattr(response, "status_code", 0) or 0)
    asked = getattr(error, "get_http_status_code", None)
    return int(asked()) if asked is not None else 0


def _asked(error: Exception, wait: Wait) -> float | None:
    """The seconds that the server wants to be left alone. MLflow's error for an answer that it would have tried again
    tells its number alone."""
    if _status(error) in THROTTLED:
        headers = getattr(getattr(error, "response", None), "headers", {})
        return retry_after_seconds(headers.get("Retry-After")) or wait()
    return wait() if any(f"too many {code} error responses" in str(error) for code in THROTTLED) else None


def asks_to_sign_in(error: BaseException | None) -> bool:
    """Whether an error of MLflow's stands for a server that does not know who asks."""
    return isinstance(error, Exception) and _status(error) in _SIGN_IN


def is_missing(error: Exception) -> bool:
    """Whether an MLflow error says that a run or experiment is not there."""
    return getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"


def _advice(error: Exception) -> str:
    if _status(error) in _SIGN_IN:
        return "the server wants to be signed in to (api_key, username and password, headers, or MLFLOW_TRACKING_...): "
    if "filesystem tracking backend" in str(error):
        return "MLflow has given up its file store; use sqlite:///mlflow.db, or a server: "
    if _DELETED in str(error):
        return "the run was deleted in MLflow (MlflowClient().restore_run brings it back): "
    return ""


def _text(error: Exception, secrets: Sequence[str]) -> str:
    text = redacted(str(error) or type(error).__name__)
    for word in secrets:
        text = text.replace(word, "***")
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
