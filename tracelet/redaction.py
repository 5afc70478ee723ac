"""Remove credentials from records, settings and messages, by their values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

import msgspec

from tracelet.records import Alert, Artifact, Layout, Mesh, Params, Record, RunInfo, Summary, Table, Tags, Text

_SHORTEST = 8
"""A password of a few letters also occurs inside ordinary words. Replacing it there would change the logged data."""
_HIDDEN = "***"
_USER = re.compile(r"""(?<=://)[^/?#\s]*@|[^\s/@:'"]+:[^\s/@]+@""")
_QUERY = re.compile(r"""(?<=[?&])([^=&\s]*(?:key|token|secret|pass)[^=&\s]*)=[^&\s'"]+""", re.IGNORECASE)


class Secrets:
    """The values to hide. `add` is safe from any thread. Text that is already written stays unchanged."""

    def __init__(self) -> None:
        self._values: frozenset[str] = frozenset()
        self._spellings: tuple[str, ...] = ()
        """The values as they are, and as URLs, JSON and Python write them; longest first."""

    def add(self, values: Iterable[str | None]) -> None:
        """Hide these values from now on. Values shorter than eight characters are ignored."""
        self._values |= {value for value in values if value and len(value) >= _SHORTEST}
        spellings = {spelling for value in self._values for spelling in (value, *_quoted(value))}
        self._spellings = tuple(sorted(spellings, key=len, reverse=True))  # one may be a part of another

    def values(self) -> list[str]:
        """Return the values hidden so far."""
        return list(self._values)

    def hide(self, text: str) -> str:
        """Replace each value in the text by ***."""
        for spelling in self._spellings:
            if spelling in text:
                text = text.replace(spelling, _HIDDEN)
        return text

    def hide_in_json(self, document: str) -> str:
        """Replace each value in the texts of a JSON document. The document escapes some of their characters."""
        if "\\" not in document and self.hide(document) == document:
            return document
        try:
            data = json.loads(document)
        except (ValueError, RecursionError):
            return self.hide(document)
        cleaned = self.hide_in(data)
        return document if cleaned == data else json.dumps(cleaned)

    def hide_in(self, value: Any) -> Any:
        """Return the plain data with each value replaced by ***."""
        return _walk(value, self.hide) if self._values else value

    def found_in(self, value: Any) -> bool:
        """Return whether plain data contains one of the values."""
        return bool(self._values) and _walk(value, self.hide) != value

    def clean(self, record: Record) -> Record:
        """Return the record with each value replaced in its text.

        That covers parameters, the summary, tags, alerts, texts, tables, layouts, the configuration of meshes and the
        metadata of artifacts. Tags of series, numbers and files stay unchanged.
        """
        if not self._values:
            return record
        match record:
            case Params(values=values) | Summary(values=values):
                return self._changed(record, values=values)
            case Text(text=text):
                return self._changed(record, text=text)
            case Layout(layout=layout):
                return self._changed(record, self.hide_in_json, layout=layout)
            case Mesh(config=config):
                return self._changed(record, self.hide_in_json, config=config)
            case Table(data=bytes(data)):
                return self._changed(record, self.hide_in_json, data=data)
            case Artifact(metadata=metadata):
                return self._changed(record, metadata=metadata)
            case Tags(tags=tags):
                return self._changed(record, tags=tags)
            case Alert(title=title, text=text):
                return self._changed(record, title=title, text=text)
            case _:
                return record

    def clean_run_info(self, info: RunInfo) -> RunInfo:
        """Return the run's description with each value replaced."""
        names = ("project", "name", "notes", "group", "tags")
        return msgspec.structs.replace(info, **{name: _walk(getattr(info, name), self.hide) for name in names})

    def _changed(self, record: Record, hide: Callable[[str], str] | None = None, **fields: Any) -> Record:
        cleaned = {name: _walk(value, hide or self.hide) for name, value in fields.items()}
        return record if cleaned == fields else msgspec.structs.replace(record, **cleaned)


def _quoted(value: str) -> Iterator[str]:
    """Yield the forms of a value in a URL, and inside the quotes of a `repr`, of JSON, and of JSON in JSON."""
    yield quote(value, safe="")
    yield quote_plus(value)
    yield repr(value)[1:-1]
    for ascii in (True, False):
        quoted = json.dumps(value, ensure_ascii=ascii)
        yield quoted[1:-1]
        yield json.dumps(quoted, ensure_ascii=ascii)[3:-3]


def redacted_url(text: str) -> str:
    """Replace the user and password of each URL in a text by ***, and each key in a query string."""
    return _QUERY.sub(r"\1=***", _USER.sub("***@", text))


def passwords_in_url(url: str | None) -> list[str]:
    """Return the password in a URL, both as written and percent-decoded; empty if there is none."""
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
