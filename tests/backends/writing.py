"""Write one batch to a backend, without a delivery."""

from collections.abc import Sequence

from tracelet.backends.base import Backend, Batch, Written
from tracelet.errors import BackendError
from tracelet.records import Record


def attempt(backend: Backend, records: Sequence[Record], last: int) -> Written | None:
    """Write a batch that ends with the number `last`, and return the result. A raised error has written nothing."""
    try:
        return backend.write(Batch.up_to(records, last))
    except BackendError as error:
        return Written(0, error)


def write_whole(backend: Backend, records: Sequence[Record], last: int) -> None:
    """Write a batch as `attempt`, and raise the error if it is not written whole."""
    result = attempt(backend, records, last)
    if result is not None:
        raise result.error
