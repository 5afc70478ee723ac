"""Credentials in use, by their values: kept out of the journal and of every text of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from tracelet.records import Alert, Artifact, Layout, Params, Record, RunInfo, Summary, Table, Tags, Text

_SHORTEST = 8
"""A password of a few letters stands in ordinary words as well; replaced there, it would change what was logged."""
_HIDDEN = "***"


class Secrets:
    """The values to hide. Learning one is safe from any thread; what was written before stays written."""

    def __init__(self) -> None:
        self._values: tuple[str, ...] = ()

    def learn(self, values: Iterable[str | None]) -> None:
        """Hide these from now on, unless they are shorter than eight characters."""
        known = {*self._values, *(value for value in values if value and len(value) >= _SHORTEST)}
        self._values = tuple(sorted(known, key=len, reverse=True))  # one may be a part of another

    def values(self) -> list[str]:
        """What is hidden by now."""
        return list(self._values)

    def hide(self, text: str) -> str:
        for value in self._values:
            if value in text:
                text = text.replace(value, _HIDDEN)
        return text

    def hidden(self, value: Any) -> Any:
        """Plain data without them."""
        return _walk(value, self.hide) if self._values else value

    def holds(self, value: Any) -> bool:
        """Whether plain data holds one of them."""
        return self._values != () and _walk(value, self.hide) != value

    def clean(self, record: Record) -> Record:
        """The record without them: in parameters, the summary, tags, alerts, texts, tables, layouts and what an
        artifact says of itself. Names of series, numbers and files are left as they are."""
        if not self._values:
            return record
        match record:
            case Params(values=values) | Summary(values=values):
                return self._changed(record, values=values)
            case Text(text=text):
                return self._changed(record, text=text)
            case Layout(layout=layout):
                return self._changed(record, layout=layout)
            case Table(data=bytes(data)):
                return self._changed(record, data=data)
            case Artifact(metadata=metadata):
                return self._changed(record, metadata=metadata)
            case Tags(tags=tags):
                return self._changed(record, tags=tags)
            case Alert(title=title, text=text):
                return self._changed(record, title=title, text=text)
            case _:
                return record

    def clean_info(self, info: RunInfo) -> RunInfo:
        """What is told about the run, without them."""
        said = {"project": info.project, "name": info.name, "notes": info.notes, "group": info.group, "tags": info.tags}
        return msgspec.structs.replace(info, **{key: _walk(value, self.hide) for key, value in said.items()})

    def _changed(self, record: Record, **fields: Any) -> Record:
        cleaned = {name: _walk(value, self.hide) for name, value in fields.items()}
        return record if cleaned == fields else msgspec.structs.replace(record, **cleaned)


def of_url(url: str | None) -> list[str]:
    """The password in a URL, as it stands there and decoded."""
    try:
        password = urlsplit(url or "").password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []


def _walk(value: Any, hide: Any) -> Any:
    match value:
        case str():
            return hide(value)
        case bytes():
            text = value.decode("utf-8", "surrogateescape")
            return hide(text).encode("utf-8", "surrogateescape")
        case Mapping():
            return {_walk(key, hide): _walk(item, hide) for key, item in value.items()}
        case list() | tuple():
            return type(value)(_walk(item, hide) for item in value)
        case _:
            return value
