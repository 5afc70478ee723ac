"""Select the records that one backend receives, by kind, tag and time. The journal stores all records."""

from __future__ import annotations

import fnmatch
import functools
import math
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from tracelet.errors import ConfigurationError
from tracelet.records import KINDS, Record, RunRecord, kind

NO_PLACE = "accepts"
"""The reason if no filter matched: the backend accepts no record of that kind."""
TOO_OLD = "age"
"""The reason if a backend does not send records of that age."""

_KINDS = {kind(record_type): record_type for record_type in KINDS}
_SERIES = [name for name, record_type in _KINDS.items() if not issubclass(record_type, RunRecord)]
# Size of the cache of decisions on tags: a program may create tags without end.
_CACHED_TAGS = 4096

Numbered = tuple[int, Record]
_Series = tuple[type[Record], str]


class Filter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The keys of `config` that every backend has. A key that is not set filters nothing."""

    include: tuple[str, ...] = ()
    """Tags that the backend receives, as shell patterns in which `*` also matches `/`. Records of the whole run
    (parameters, artifacts, ...) have no tag and always pass."""
    exclude: tuple[str, ...] = ()
    """Tags that it does not receive, even if included."""
    kinds: tuple[str, ...] = ()
    """Kinds of record that it receives. If empty, all kinds."""
    exclude_kinds: tuple[str, ...] = ()
    """Kinds of record that it does not receive."""
    every: dict[str, float] = {}
    """Kind -> seconds. Each tag of that kind passes at most one record in that time, by the records' wall times."""

    def to_config(self) -> dict[str, Any]:
        """Return the keys that are set, in the form of `config`."""
        config: dict[str, Any] = msgspec.to_builtins(self)
        return config

    def excluding_key(self, name: str) -> str | None:
        """Return the key that excludes a kind of record; None if the kind passes."""
        if self.kinds and name not in self.kinds:
            return "kinds"
        return "exclude_kinds" if name in self.exclude_kinds else None


KEYS = Filter.__struct_fields__


def parse(config: Mapping[str, Any], owner: str) -> Filter:
    """Return the filter for these keys of a `config`. Messages of errors begin with `owner`.

    A list may be a text with commas, and `every` a text such as `image=60,histogram=30`.

    Raises:
        ConfigurationError: a kind is unknown, or a value is invalid.
    """
    given = {key: _from_text(key, value, owner) if isinstance(value, str) else value for key, value in config.items()}
    try:
        parsed = msgspec.convert(given, Filter, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"{owner}: {error}. include and exclude must be lists of patterns, kinds and exclude_kinds lists of "
            "kinds of record; every must be seconds by kind, such as {'image': 60}"
        ) from error
    for key in ("kinds", "exclude_kinds", "every"):
        for name in getattr(parsed, key):
            if name not in _KINDS:
                raise ConfigurationError(f"{owner}: {key}: unknown kind {name!r}. Kinds: {', '.join(_KINDS)}")
    for name, seconds in parsed.every.items():
        if name not in _SERIES:
            raise ConfigurationError(
                f"{owner}: every: {name!r} has no tags. Kinds with tags: {', '.join(_SERIES)}. To exclude the kind, "
                f"set exclude_kinds=[{name!r}]"
            )
        if not 0 < seconds < math.inf:
            raise ConfigurationError(f"{owner}: every: {name!r} must be a number of seconds above 0, got {seconds!r}")
    return parsed


def _from_text(key: str, text: str, owner: str) -> Any:
    items = [item.strip() for item in text.split(",") if item.strip()]
    if key != "every":
        return items
    pairs = [item.partition("=") for item in items]
    for name, equals, _ in pairs:
        if not equals:
            raise ConfigurationError(
                f"{owner}: every must be KIND=SECONDS pairs such as image=60,histogram=30, got {name!r}"
            )
    return {name.strip(): seconds.strip() for name, _, seconds in pairs}


class FilterState:
    """Apply a filter to the records of one journal, in the order of their sequence numbers.

    A decision depends on the record and on earlier records, never on the borders of batches. `apply` may be called
    again for undelivered records: it changes nothing before `commit`.
    """

    def __init__(self, accepts: Collection[type[Record]], wanted: Filter, max_age: float | None = None) -> None:
        """`max_age` is in seconds, for backends without a store: of others, the decisions would change with time."""
        self._accepted = frozenset(record_type for record_type in KINDS if issubclass(record_type, tuple(accepts)))
        self._is_empty = wanted == Filter() and max_age is None
        self._max_age = math.inf if max_age is None else max_age
        self._kind_reasons = {
            record_type: wanted.excluding_key(name) if record_type in self._accepted else NO_PLACE
            for name, record_type in _KINDS.items()
        }
        self._tag_reason = _tag_reason(wanted)
        self._every = {_KINDS[name]: seconds for name, seconds in wanted.every.items()}
        self._last: dict[_Series, float] = {}
        self._passed: list[tuple[int, _Series, float]] = []

    @property
    def is_stateful(self) -> bool:
        """Return whether decisions depend on earlier records: to resume, first apply the filter to those."""
        return bool(self._every)

    def apply(self, first: int, records: Sequence[Record]) -> tuple[list[Numbered], list[tuple[int, str]]]:
        """Split records into those that the backend receives, and the numbers of the others with the excluding key.

        `first` is the sequence number of the first record.
        """
        if self._is_empty:
            kinds = self._accepted
            accepted = [(seq, record) for seq, record in enumerate(records, first) if record.__class__ in kinds]
            if len(accepted) == len(records):
                return accepted, []
            others = [(seq, NO_PLACE) for seq, record in enumerate(records, first) if record.__class__ not in kinds]
            return accepted, others
        passed: dict[_Series, float] = {}
        self._passed.clear()
        accepted, others = [], []
        for seq, record in enumerate(records, first):
            reason = self._reason(seq, record, passed)
            if reason is None:
                accepted.append((seq, record))
            else:
                others.append((seq, reason))
        return accepted, others

    def commit(self, last: int) -> None:
        """Record that the accepted records are delivered up to sequence number `last`."""
        for seq, series, wall_time in self._passed:
            if seq <= last:
                self._last[series] = wall_time
        self._passed.clear()

    def _reason(self, seq: int, record: Record, passed: dict[_Series, float]) -> str | None:
        reason = self._kind_reasons[record.__class__]
        if reason is None and time.time() - record.wall_time > self._max_age:
            return TOO_OLD
        if reason is not None or isinstance(record, RunRecord):
            return reason
        reason = self._tag_reason(record.tag)
        if reason is not None or record.__class__ not in self._every:
            return reason
        series = record.__class__, record.tag
        before = passed.get(series, self._last.get(series))
        # abs(): a clock that is set back starts a new interval. The comparison lets a wall time of NaN pass.
        if before is not None and abs(record.wall_time - before) < self._every[record.__class__]:
            return "every"
        passed[series] = record.wall_time
        self._passed.append((seq, series, record.wall_time))
        return None


def _tag_reason(wanted: Filter) -> Callable[[str], str | None]:
    """Return a function from a tag to the key that excludes it, or None."""
    include, exclude = _any_of(wanted.include), _any_of(wanted.exclude)

    @functools.lru_cache(_CACHED_TAGS)
    def reason(tag: str) -> str | None:
        if include is not None and not include.match(tag):
            return "include"
        return "exclude" if exclude is not None and exclude.match(tag) else None

    return reason


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, patterns))) if patterns else None
