"""The keys of `config`, and the credentials among them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tracelet.backends.config import BackendConfig
from tracelet.redaction import passwords_in_url

HOST_NAMES = ("CLEARML_API_HOST", "CLEARML_WEB_HOST", "CLEARML_FILES_HOST")
_KEY_NAMES = re.compile("(CLEARML|TRAINS)_(API_ACCESS_KEY|API_SECRET_KEY|API_AUTH_TOKEN|AUTH_TOKEN)")
# In clearml.conf: keys of ClearML's own server and of storages.
_CONF_KEYS = re.compile(r"""\b(?:access_key|secret_key|secret|account_key|token)"?\s*[:=]\s*"?([^"\s,}$]+)""")
_CONF_URLS = re.compile(r"""https?://[^"\s]+""")


class ClearmlConfig(BackendConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of `Task.init`, and the URLs and keys of the server. If one is None, ClearML's own value applies."""

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
    def keys(self) -> tuple[str | None, str | None]:
        """The access key and the secret key."""
        access, _, secret = (self.api_key or "").partition(":")
        return self.access_key or access or None, self.secret_key or secret or None

    def hosts(self) -> dict[str, str]:
        """Return the known URLs by the names of ClearML's variables.

        If `backend_url` is set, the other two are derived from it: those in a clearml.conf belong to another server.
        """
        web = self.web_url or _derived_url(self.backend_url, "app", "8080")
        files = self.files_url or _derived_url(self.backend_url, "files", "8081")
        return {name: host for name, host in zip(HOST_NAMES, (self.backend_url, web, files), strict=True) if host}

    def secrets(self) -> Iterator[str]:
        """Yield the credentials in the config, the environment and clearml.conf, without importing clearml."""
        yield from super().secrets()
        yield from filter(None, self.keys)
        yield from (value for name, value in os.environ.items() if _KEY_NAMES.fullmatch(name) and value)
        for variable in HOST_NAMES:
            yield from passwords_in_url(os.environ.get(variable))
        path = os.environ.get("CLEARML_CONFIG_FILE") or os.environ.get("TRAINS_CONFIG_FILE") or "~/clearml.conf"
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8", errors="replace")
        except (OSError, RuntimeError):  # RuntimeError: no home directory
            return
        yield from _CONF_KEYS.findall(text)
        for url in _CONF_URLS.findall(text):
            yield from passwords_in_url(url)


def _derived_url(api: str | None, label: str, port: str) -> str | None:
    """Derive the URL of the web or file server from that of the API server, as ClearML does."""
    if api is not None and "://api." in api:
        return api.replace("://api.", f"://{label}.", 1)
    if api is not None and api.rstrip("/").endswith(":8008"):
        return api.rstrip("/")[: -len("8008")] + port
    return None
