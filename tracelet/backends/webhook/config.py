"""Check the address of a webhook, which is a credential: whoever has it can post."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import parse_qsl, urlsplit

from tracelet.backends.config import BackendConfig
from tracelet.errors import ConfigurationError

# Parts of an address with at least this length are tokens. Shorter words, as in /alerts/training, also occur in data.
_TOKEN_LENGTH = 20


class WebhookConfig(BackendConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`alert_webhook` is the address; by default, that of the setting."""

    secret_keys: ClassVar[tuple[str, ...]] = ("alert_webhook",)

    alert_webhook: str | None = None

    def __post_init__(self) -> None:
        if self.alert_webhook is not None and not _is_valid(self.alert_webhook):
            raise ConfigurationError(
                "alert_webhook must be an http or https address in ASCII, without user and password; got another value"
            )

    def secrets(self) -> Iterator[str]:
        """Yield the address, with and without its scheme, and the tokens in it; nothing if it is only a host."""
        parts = urlsplit(self.alert_webhook or "")
        if self.alert_webhook is not None and (parts.path.strip("/") or parts.query):
            yield from (self.alert_webhook, self.alert_webhook.partition("://")[2])
            words = [*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))]
            yield from (word for word in words if len(word) >= _TOKEN_LENGTH)

    @property
    def host(self) -> str:
        """The host of the address, which messages may name; empty without an address."""
        return urlsplit(self.alert_webhook or "").hostname or ""


def _is_valid(address: str) -> bool:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    has_host = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and port != 0
    return has_host and address.isascii() and address.isprintable() and " " not in address
