"""Translate the exceptions of ClearML and of its libraries to the two errors of a backend."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from tracelet.backends.clearml.http_sessions import login_error
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.redaction import redacted_url


@contextlib.contextmanager
def translated(*, record: bool = False) -> Iterator[None]:
    """Translate the exceptions of a `with` block. `record`: the block writes one record, which may be invalid."""
    from clearml.backend_interface.session import SendError
    from clearml.errors import UsageError
    from requests import RequestException

    try:
        yield
    except SendError as error:
        code = error.result.meta.result_code
        if record and code in (400, 413, 422):
            raise RecordRejected(f"clearml: the server rejected the record: {error.result.meta.result_msg}") from error
        raise BackendUnavailable(f"clearml: {redacted_url(str(error.result.meta.result_msg))}") from error
    except (RequestException, UsageError, login_error()) as error:
        raise BackendUnavailable(f"clearml: {redacted_url(str(error))}") from error
    except FileNotFoundError as error:
        raise (RecordRejected if record else BackendUnavailable)(f"clearml: {error}") from error
    except OSError as error:
        raise BackendUnavailable(f"clearml: {os.strerror(error.errno) if error.errno else error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise (RecordRejected if record else BackendUnavailable)(f"clearml: {error}") from error
