"""What an exception means: one of a vendor's is an outage, unless the table lists it as a rejection of a record."""

from __future__ import annotations

import builtins
import contextlib
import errno
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tracelet.backends.aim import errors as aim
from tracelet.backends.clearml import errors as clearml
from tracelet.backends.csvfile import CsvBackend
from tracelet.backends.exceptions import REJECTED, UNAVAILABLE, verdict
from tracelet.backends.mlflow import errors as mlflow
from tracelet.backends.trackio import store as trackio
from tracelet.backends.wandb import errors as wandb
from tracelet.errors import BackendUnavailable, RecordRejected

TABLES: dict[str, Any] = {
    "aim": {},
    "clearml": clearml._TABLE,
    "mlflow": {},
    "trackio": trackio.TABLE,
    "wandb": wandb._TABLE,
}
# The parts of each package that a backend calls; importing the others takes minutes.
CLIENTS = {
    "aim": ("sdk/errors", "ext/transport"),
    "clearml": ("errors", "binding", "backend_config", "backend_api/session", "backend_interface", "storage"),
    "mlflow": ("exceptions", "tracking", "store/artifact", "utils"),
    "trackio": ("cas", "exceptions", "references", "sqlite_storage", "utils"),
    "wandb": ("errors", "sdk/mailbox", "sdk/lib", "sdk/artifacts/exceptions", "apis/public/runs"),
}
REJECTING = {
    "aim": set(),
    "clearml": {"FieldNotSupported", "ValidationError"},
    "mlflow": set(),
    "trackio": set(),
    "wandb": {"ConfigError", "Error", "ServerResponseError", "UnsupportedError", "UsageError"},
}
WRITING = {
    "aim": lambda: aim.translated(record=True),
    "clearml": lambda: clearml.translated(record=True),
    "csv": lambda: CsvBackend()._translated(records=True),
    "mlflow": mlflow.converting,
    "wandb": lambda: wandb.translated(record=True),
}


def exception_classes(vendor: str) -> Iterator[type[Exception]]:
    """Each class of the vendor's client that its source calls an exception."""
    root = Path(str(importlib.import_module(vendor).__file__)).parent
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).with_suffix("").as_posix()
        if not name.startswith(CLIENTS[vendor]):
            continue
        found = re.findall(r"^class (\w+)\(.*(?:Error|Exception)\b.*\)", path.read_text("utf-8"), re.MULTILINE)
        with contextlib.suppress(ImportError):  # what cannot be imported is never raised
            module = importlib.import_module(f"{vendor}.{name.replace('/', '.')}") if found else None
            yield from (cls for cls in (getattr(module, cls) for cls in found) if issubclass(cls, Exception))


def raised_in(module: str, error: Exception) -> Exception:
    """The error, raised in a function of `module`."""
    scope: dict[str, Any] = {"__name__": module}
    exec("def fail(error): raise error", scope)
    with pytest.raises(type(error)) as caught:
        scope["fail"](error)
    return caught.value


@pytest.mark.parametrize("vendor", TABLES)
def test_every_exception_of_a_vendor_has_a_meaning(vendor: str) -> None:
    """Those that reject a record are listed here; whatever a release adds means that the vendor is unavailable."""
    meanings = {cls: verdict(cls.__new__(cls), vendor, TABLES[vendor]) for cls in exception_classes(vendor)}

    assert meanings
    assert {REJECTED, UNAVAILABLE} >= set(meanings.values())
    assert REJECTING[vendor] == {cls.__name__ for cls, meaning in meanings.items() if meaning == REJECTED}


@pytest.mark.parametrize("vendor", TABLES)
def test_the_table_names_classes_that_exist(vendor: str) -> None:
    for name in TABLES[vendor]:
        module, _, cls = name.rpartition(".")
        assert issubclass(getattr(importlib.import_module(module), cls), Exception)


def test_what_a_vendors_code_raises_is_never_a_defect_of_ours() -> None:
    """An AssertionError of a vendor that has lost its service is an outage; the same from our own code is a defect."""
    kinds = [cls for cls in vars(builtins).values() if isinstance(cls, type) and issubclass(cls, Exception)]
    for kind in kinds:
        error = kind.__new__(kind, *(("", [ValueError()]) if "ExceptionGroup" in kind.__name__ else ()))
        assert verdict(raised_in("wandb.sdk.somewhere", error), "wandb", {}) in (REJECTED, UNAVAILABLE)
    for kind in (AssertionError, AttributeError, NameError, RuntimeError):
        assert UNAVAILABLE == verdict(raised_in("wandb.sdk", kind()), "wandb", {})
        assert None is verdict(raised_in("tracelet.backends.wandb", kind()), "wandb", {})


def test_an_answer_that_cannot_be_parsed_rejects_nothing() -> None:
    """A proxy's page in place of a server's JSON is an outage, although Python calls it a ValueError or a KeyError."""
    import json

    import requests

    garbled = json.JSONDecodeError("no", "<html>", 0)
    assert UNAVAILABLE == verdict(raised_in("mlflow.utils.rest_utils", garbled), "mlflow", {})
    assert UNAVAILABLE == verdict(requests.exceptions.JSONDecodeError("no", "<html>", 0), "aim", {})
    assert REJECTED == verdict(json.JSONDecodeError("no", "<html>", 0), "mlflow", {})
    assert (UNAVAILABLE, REJECTED) == (
        verdict(raised_in("aim.sdk", KeyError()), "aim", {}),
        verdict(KeyError(), "aim", {}),
    )


@pytest.mark.parametrize("vendor", WRITING)
@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (OSError(errno.ENOSPC, "no space"), BackendUnavailable),
        (PermissionError(errno.EACCES, "denied"), BackendUnavailable),
        (OSError(errno.EMFILE, "too many files"), BackendUnavailable),
        (MemoryError(), BackendUnavailable),
        (ValueError("no number"), RecordRejected),
        (OverflowError("too large"), RecordRejected),
        (AttributeError("a defect of ours"), AttributeError),
    ],
    ids=lambda value: repr(value) if isinstance(value, Exception) else "",
)
def test_a_record_is_rejected_only_for_its_value(vendor: str, error: Exception, becomes: type[Exception]) -> None:
    """A full disk, a lost permission and an unknown error prove nothing against the record that was being written."""
    with pytest.raises(Exception) as caught, WRITING[vendor]():
        raise error
    assert becomes is type(caught.value)
