"""The two errors of a backend, for everything that ClearML and those below it raise."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from tracelet.backends.addresses import redacted
from tracelet.backends.clearml.http_sessions import login_error
from tracelet.errors import BackendUnavailable, RecordRejected


@contextlib.contextmanager
def translated(*, record: bool = False) -> Iterator[None]:
    """The two errors of a backend. `record`: one record can be at fault."""
    from clearml.backend_interface.session import SendError
    from clearml.errors import UsageError
    from requests import RequestException

    try:
        yield
    except SendError as error:
        code = error.result.meta.result_code
        if record and code in (400, 413, 422):
            raise RecordRejected(f"clearml: the server refuses it: {error.result.meta.result_msg}") from error
        raise BackendUnavailable(f"clearml: {redacted(str(error.result.meta.result_msg))}") from error
    except (RequestException, UsageError, login_error()) as error:
        raise BackendUnavailable(f"clearml: {redacted(str(error))}") from error
    except FileNotFoundError as error:
        raise (RecordRejected if record else BackendUnavailable)(f"clearml: {error}") from error
    except OSError as error:
        raise BackendUnavailable(f"clearml: {os.strerror(error.errno) if error.errno else error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise (RecordRejected if record else BackendUnavailable)(f"clearml: {error}") from error
