"""Give the backends that notify people the address of the run's web page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from tracelet.backends.base import Backend
from tracelet.backends.capabilities import Notifier
from tracelet.delivery.status import DeliveryHandle
from tracelet.errors import JournalError
from tracelet.journal.store import JournalReader
from tracelet.redaction import Secrets, redacted_url


def link_pages(
    backends: Iterable[Backend], deliveries: Mapping[str, DeliveryHandle], folder: Path, secrets: Secrets
) -> None:
    """Let each `Notifier` find the page, of one of these deliveries or, as the journal has it, of earlier ones."""
    for backend in backends:
        if isinstance(backend, Notifier):
            backend.find_page = partial(_find_page, deliveries, folder, secrets)


def _find_page(deliveries: Mapping[str, DeliveryHandle], folder: Path, secrets: Secrets) -> str | None:
    addresses = [delivery.url for delivery in deliveries.values()]
    with contextlib.suppress(JournalError), JournalReader(folder) as reader:
        addresses += [value for key, value in reader.facts().items() if key.startswith("url ")]
    # Other backends have a folder.
    pages = (str(address) for address in addresses if str(address).startswith(("http://", "https://")))
    return next((secrets.hide(redacted_url(page)) for page in pages), None)
