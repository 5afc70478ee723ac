"""Send the alerts of a run to a webhook. There is no store: the journal's cursor says which were sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tracelet import settings
from tracelet.backends.base import Backend, Batch, Written, write_each
from tracelet.backends.capabilities import Notifier, Probe, Probing
from tracelet.backends.http import Response, request
from tracelet.backends.webhook.config import WebhookConfig
from tracelet.backends.webhook.messages import message
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.records import Alert, Record, RunInfo
from tracelet.version import __version__

# Seconds for each operation on the socket; the whole request takes at most twice as long.
_TIMEOUT = 5.0
# Client errors that go away: a proxy that asks to sign in, a slow network, too many requests.
_TEMPORARY = (407, 408, 425, 429)


class WebhookBackend(Backend, Notifier, Probing):
    """Post each alert as JSON. `start_logging` adds this backend if the setting `alert_webhook` has an address."""

    name = "webhook"
    accepts: ClassVar[Mapping[type[Record], str]] = {Alert: "a message"}
    Config = WebhookConfig
    max_age = 86_400.0

    def __init__(self, config: WebhookConfig | None = None) -> None:
        """The address comes from the settings if `config` has none: a journal, for `tracelet sync`, never does."""
        if config is None or config.alert_webhook is None:
            config = WebhookConfig(alert_webhook=settings.load({}).alert_webhook)
        super().__init__(config)
        self._run: RunInfo | None = None

    def open(self, run: RunInfo) -> None:
        self._run = run

    def write(self, batch: Batch) -> Written | None:
        return write_each(batch, self._send)

    def _send(self, record: Record) -> None:
        assert isinstance(record, Alert)
        assert self._run is not None
        if self.config.alert_webhook is None:
            raise BackendUnavailable("webhook: its address is stored nowhere. Set TRACELET_ALERT_WEBHOOK")
        _check(self._post(message(record, self._run, self.find_page(), self.config.host)), self.config.host)

    def _post(self, content: dict[str, Any]) -> Response:
        headers = {"Content-Type": "application/json", "User-Agent": f"tracelet/{__version__}"}
        try:
            data = json.dumps(content).encode()
            return request(self.config.alert_webhook, _TIMEOUT, data=data, headers=headers, redirects=False)
        except (OSError, ValueError) as error:
            raise BackendUnavailable(f"webhook: {self.config.host} does not answer ({_described(error)})") from error

    @classmethod
    def probe(cls, config: Any = None) -> Probe:
        """Check that the host answers. Do not request the address: some servers notify at any request."""
        config = cls(config).config
        if config.alert_webhook is None:
            return Probe(False, "no address. Set alert_webhook or TRACELET_ALERT_WEBHOOK")
        parts = urlsplit(config.alert_webhook)
        try:
            request(f"{parts.scheme}://{parts.netloc}/", _TIMEOUT, redirects=False)
        except (OSError, ValueError) as error:
            return Probe(False, f"{config.host} does not answer ({_described(error)})", reachable=False)
        return Probe(True, f"{config.host} answers; whether it accepts alerts is not checked", reachable=True)

    def secrets(self) -> Iterable[str]:
        return list(self.config.secrets())


def _check(response: Response, host: str) -> None:
    status = response.status
    if 200 <= status < 300:
        return
    answer = f"webhook: {host} answered {status} {response.reason}".rstrip()
    if 300 <= status < 400:
        raise BackendUnavailable(f"{answer}, a redirect. Set alert_webhook to the final address")
    if status >= 500 or status in _TEMPORARY:
        raise BackendUnavailable(answer, retry_after=response.retry_after)
    advice = ". Its address may be invalid or revoked" if status in (401, 403, 404, 410) else ""
    raise RecordRejected(answer + advice)


def _described(error: Exception) -> str:
    """Return the cause of a failed request. Its text never contains the address."""
    reason = getattr(error, "reason", error)
    return str(reason) or type(reason).__name__
