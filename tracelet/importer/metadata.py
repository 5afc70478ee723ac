"""Remember the metadata of each tag: TensorFlow 1 writes it only with the tag's first value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

KnownMetadata: TypeAlias = tuple[str, str, str, bytes]
"""Folder, tag, plugin, and the plugin's data if later values need it."""

_WITH_CONTENT = frozenset({"mesh"})


class TagMetadata:
    """Add to the values of an event the metadata of earlier values. A later import needs `known` to resume."""

    def __init__(self, known: Iterable[KnownMetadata]) -> None:
        self._plugins = {(folder, tag): (plugin, content) for folder, tag, plugin, content in known}

    @property
    def known(self) -> list[KnownMetadata]:
        return [(*series, *plugin) for series, plugin in self._plugins.items()]

    def complete(self, folder: str, event: Any) -> None:
        """Change `event`, whose tags are those of `folder`."""
        for value in event.summary.value:
            if value.WhichOneof("value") != "tensor":
                continue
            series, data = (folder, value.tag), value.metadata.plugin_data
            if data.plugin_name:
                content = data.content if data.plugin_name in _WITH_CONTENT else b""
                self._plugins[series] = (data.plugin_name, content)
            elif series in self._plugins:
                data.plugin_name, data.content = self._plugins[series]
