"""The keys of `config`, and the credentials among them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tracelet.backends.base import BackendConfig
from tracelet.backends.clearml.environment import HOST_NAMES, Server
from tracelet.redaction import passwords_in_url

_VARIABLES = tuple(
    f"{vendor}_{name}"
    for vendor in ("CLEARML", "TRAINS")
    for name in ("API_ACCESS_KEY", "API_SECRET_KEY", "AUTH_TOKEN")
)
# In clearml.conf: keys of ClearML's own server and of storages.
_CONF_KEYS = re.compile(r"""\b(?:access_key|secret_key|secret|account_key|token)"?\s*[:=]\s*"?([^"\s,}$]+)""")
_CONF_URLS = re.compile(r"""https?://[^"\s]+""")


class ClearmlConfig(BackendConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of `Task.init`, and the URLs and keys of the server."""

    secret_keys = ("api_key", "access_key", "secret_key")
    address_keys = ("backend_url", "web_url", "files_url", "output_uri")

    task_name: str | None = None
    project: str | None = None
    tags: list[str] | None = None
    task_type: str | None = None
    output_uri: str | bool | None = None
    continue_last_task: bool | str | int | None = None
    reuse_last_task_id: bool | str | None = None
    auto_connect_frameworks: bool | dict[str, Any] = False
    auto_connect_arg_parser: bool | dict[str, bool] = False
    auto_connect_streams: bool | dict[str, bool] = False
    auto_resource_monitoring: bool | dict[str, Any] = True
    mode: Literal["online", "offline"] | None = None
    backend_url: str | None = None
    web_url: str | None = None
    files_url: str | None = None
    api_key: str | None = None
    access_key: str | None = None
    secret_key: str | None = None

    def __post_init__(self) -> None:
        frameworks = self.auto_connect_frameworks
        if isinstance(frameworks, dict) and frameworks.get("tensorboard"):
            raise ValueError(
                "auto_connect_frameworks must not enable 'tensorboard', because every record would arrive twice. "
                "Remove it: tracelet captures TensorBoard"
            )
        if self.api_key is not None and not all(self.api_key.partition(":")):
            raise ValueError("api_key must be '<access key>:<secret key>': ClearML has two keys")

    @property
    def server(self) -> Server:
        access, _, secret = (self.api_key or "").partition(":")
        keys = self.access_key or access or None, self.secret_key or secret or None
        return Server(self.backend_url, self.web_url, self.files_url, *keys)

    def secrets(self) -> Iterator[str]:
        """Yield the credentials in the config, the environment and clearml.conf, without importing clearml."""
        yield from super().secrets()
        yield from filter(None, self.server[3:])
        yield from filter(None, map(os.environ.get, _VARIABLES))
        for variable in HOST_NAMES:
            yield from passwords_in_url(os.environ.get(variable))
        path = os.environ.get("CLEARML_CONFIG_FILE") or os.environ.get("TRAINS_CONFIG_FILE") or "~/clearml.conf"
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8", errors="replace")
            yield from _CONF_KEYS.findall(text)
            for url in _CONF_URLS.findall(text):
                yield from passwords_in_url(url)
        except (OSError, RuntimeError):  # RuntimeError: no home directory
            return
