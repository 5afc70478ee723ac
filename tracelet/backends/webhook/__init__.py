"""Alerts as messages to a webhook: Slack, Discord, or any other server."""

from tracelet.backends.webhook.adapter import WebhookBackend

__all__ = ["WebhookBackend"]
