"""Base class of the `config` of a backend: what of it is secret, an address or a path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tracelet.redaction import passwords_in_url, redacted_url


class BackendConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of `config` for one backend, with their types and defaults.

    The journal stores all keys but the secret ones, so that a later delivery needs no `config`.
    """

    secret_keys: ClassVar[tuple[str, ...]] = ()
    """Keys with a credential. They are never stored or shown."""
    address_keys: ClassVar[tuple[str, ...]] = ()
    """Keys with a URL. A password in it is not shown."""
    path_keys: ClassVar[tuple[str, ...]] = ()
    """Keys with a path or a URL. A path is stored as absolute: a later process has another working directory."""

    def secrets(self) -> Iterator[str]:
        """Yield the credentials, also those in addresses."""
        for key in self.secret_keys:
            value = getattr(self, key)
            if isinstance(value, str):
                yield value
        for key in self.address_keys:
            address = getattr(self, key)
            yield from passwords_in_url(address if isinstance(address, str) else None)

    @classmethod
    def persistent_keys(cls) -> tuple[str, ...]:
        """Return the keys that the journal may store."""
        return tuple(key for key in cls.__struct_fields__ if key not in cls.secret_keys)

    def persistent(self) -> dict[str, Any]:
        """Return the values that the journal may store."""
        values = {key: getattr(self, key) for key in self.persistent_keys()}
        return values | {key: absolute(values[key]) for key in self.path_keys}

    def __repr__(self) -> str:
        shown = {key: getattr(self, key) for key in self.persistent_keys()}
        shown |= {key: redacted_url(shown[key]) for key in self.address_keys if isinstance(shown.get(key), str)}
        shown |= {key: "***" for key in self.secret_keys if getattr(self, key) is not None}
        fields = ", ".join(f"{key}={value!r}" for key, value in shown.items() if value is not None)
        return f"{type(self).__name__}({fields})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("", repr(self))]


class NoConfig(BackendConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `config` of a backend without settings."""


def absolute(path: str | None) -> str | None:
    """Return an absolute path; a URL as it is."""
    return path if path is None or "://" in path else str(Path(os.path.expanduser(path)).absolute())
