"""What `config` may say, and which of it is secret."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from tracelet.backends.addresses import redacted
from tracelet.backends.clearml.environment import HOST_NAMES, Server
from tracelet.redaction import of_url

_SECRET = ("api_key", "access_key", "secret_key")
_ADDRESSES = ("backend_url", "web_url", "files_url", "output_uri")
_VARIABLES = tuple(
    f"{vendor}_{name}"
    for vendor in ("CLEARML", "TRAINS")
    for name in ("API_ACCESS_KEY", "API_SECRET_KEY", "AUTH_TOKEN")
)
# In clearml.conf, of ClearML's own server and of the storages.
_CONF_KEYS = re.compile(r"""\b(?:access_key|secret_key|secret|account_key|token)"?\s*[:=]\s*"?([^"\s,}$]+)""")
_CONF_ADDRESSES = re.compile(r"""https?://[^"\s]+""")


class ClearmlConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `Task.init` should be given beyond the run itself, and how the server is reached."""

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
                "auto_connect_frameworks: 'tensorboard' stays off, since every record would arrive twice. "
                "tracelet carries what TensorBoard is told"
            )
        if self.api_key is not None and not all(self.api_key.partition(":")):
            raise ValueError("api_key: ClearML has two keys; give them as '<access key>:<secret key>'")

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in KEPT}
        shown |= {name: redacted(shown[name]) for name in _ADDRESSES if isinstance(shown[name], str)}
        shown |= {name: "***" for name in _SECRET if getattr(self, name) is not None}
        return f"ClearmlConfig({', '.join(f'{name}={value!r}' for name, value in shown.items() if value is not None)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("", repr(self))]

    @property
    def server(self) -> Server:
        access, _, secret = (self.api_key or "").partition(":")
        keys = self.access_key or access or None, self.secret_key or secret or None
        return Server(self.backend_url, self.web_url, self.files_url, *keys)


KEPT = tuple(name for name in ClearmlConfig.__struct_fields__ if name not in _SECRET)


def secrets(config: ClearmlConfig) -> Iterator[str]:
    """The keys that this backend could use, clearml not imported: given, in the environment, in clearml.conf."""
    yield from filter(None, config.server[3:])
    yield from filter(None, map(os.environ.get, _VARIABLES))
    addresses = (getattr(config, name) for name in _ADDRESSES)
    for address in (*addresses, *map(os.environ.get, HOST_NAMES)):
        yield from of_url(address if isinstance(address, str) else None)
    place = os.environ.get("CLEARML_CONFIG_FILE") or os.environ.get("TRAINS_CONFIG_FILE") or "~/clearml.conf"
    try:
        text = Path(place).expanduser().read_text(encoding="utf-8", errors="replace")
        yield from _CONF_KEYS.findall(text)
        for address in _CONF_ADDRESSES.findall(text):
            yield from of_url(address)
    except (OSError, RuntimeError):  # RuntimeError: nobody's home
        return
