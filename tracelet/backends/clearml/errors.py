"""Translate the exceptions of ClearML and of its libraries to the two errors of a backend."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tracelet.backends.exceptions import REJECTED, Translated, Verdict, verdict
from tracelet.errors import BackendError, BackendUnavailable, RecordRejected
from tracelet.redaction import redacted_url

_REJECTION_CODES = (400, 413, 422)
_TABLE: Mapping[str, Verdict] = {
    # ClearML checks a request against its schema before it sends it.
    "clearml.backend_interface.base.ValidationError": REJECTED,
    "clearml.backend_api.session.jsonmodels.errors.ValidationError": REJECTED,
    "clearml.backend_api.session.jsonmodels.errors.FieldNotSupported": REJECTED,
}


def translated(*, record: bool = False) -> Translated:
    """Translate the exceptions of a `with` block. `record`: the block writes one record, which may be invalid."""

    def translate(error: Exception) -> BackendError | None:
        meaning = None if isinstance(error, BackendError) else verdict(error, "clearml", _TABLE)
        if meaning is None:
            return None
        result = getattr(getattr(error, "result", None), "meta", None)  # of a SendError
        if result is not None:
            if record and result.result_code in _REJECTION_CODES:
                return RecordRejected(f"clearml: the server rejected the record: {result.result_msg}")
            return BackendUnavailable(f"clearml: {redacted_url(str(result.result_msg))}")
        if meaning == REJECTED and record:
            return RecordRejected(f"clearml: {error}")
        number = getattr(error, "errno", None)
        return BackendUnavailable(f"clearml: {os.strerror(number) if number else redacted_url(str(error))}")

    return Translated(translate)
