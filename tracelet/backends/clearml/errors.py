"""Translate the exceptions of ClearML and of its libraries to the two errors of a backend."""

from __future__ import annotations

from collections.abc import Mapping

from tracelet.backends import exceptions
from tracelet.backends.exceptions import REJECTED, Verdict

_TABLE: Mapping[str, Verdict] = {
    # ClearML checks a request against its schema before it sends it.
    "clearml.backend_interface.base.ValidationError": REJECTED,
    "clearml.backend_api.session.jsonmodels.errors.ValidationError": REJECTED,
    "clearml.backend_api.session.jsonmodels.errors.FieldNotSupported": REJECTED,
}


def translated(*, record: bool = False) -> exceptions.Translated:
    """Translate the exceptions of a `with` block. `record`: the block writes one record, which may be invalid."""
    return exceptions.translated("clearml", _TABLE, record=record)
