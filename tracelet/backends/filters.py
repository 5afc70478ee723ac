"""What of a run one backend gets, by kind, name and time. The journal keeps everything: a filter is a delivery's."""

from __future__ import annotations

import fnmatch
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tracelet.errors import ConfigurationError
from tracelet.records import KINDS, Record, RunRecord, kind

NO_PLACE = "accepts"
"""The reason where no filter is: the backend takes no record of that kind."""

_KINDS = {kind(one): one for one in KINDS}
_SERIES = [word for word, one in _KINDS.items() if not issubclass(one, RunRecord)]
# Verdicts on names that are remembered; a program may make up names without end.
_NAMES = 4096

Numbered = tuple[int, Record]
_Series = tuple[type[Record], str]


class Filter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The keys of `config` that every backend knows. What is not given lets everything through."""

    include: tuple[str, ...] = ()
    """Names of series that the backend gets, as shell patterns of which `*` crosses `/`. What is said of the run as a
    whole (parameters, artifacts, ...) has no such name."""
    exclude: tuple[str, ...] = ()
    """Names that it does not get, even if included."""
    kinds: tuple[str, ...] = ()
    """Kinds of record that it gets, and no others."""
    exclude_kinds: tuple[str, ...] = ()
    """Kinds that it does not get."""
    every: dict[str, float] = {}
    """Kind -> seconds: of each series of that kind one record in so many seconds, by the records' wall times."""

    def plain(self) -> dict[str, Any]:
        """As `config` says it; only what is given."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    def of_kind(self, word: str) -> str | None:
        """The key that keeps a kind of record from the backend, if one does."""
        if self.kinds and word not in self.kinds:
            return "kinds"
        return "exclude_kinds" if word in self.exclude_kinds else None


KEYS = Filter.__struct_fields__


def made(config: Mapping[str, Any], owner: str) -> Filter:
    """The filter that these keys of a `config` describe; `owner` begins what an error says.

    Lists may be comma lists, and `every` text such as `image=60,histogram=30`.

    Raises:
        ConfigurationError: a kind that nobody knows, or a value that cannot be meant.
    """
    given = {key: _from_text(key, value, owner) if isinstance(value, str) else value for key, value in config.items()}
    try:
        found = msgspec.convert(given, Filter, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"{owner}: {error}. include and exclude take patterns of names, kinds and exclude_kinds kinds of record, "
            "as a list each; every takes seconds by kind, as {'image': 60}"
        ) from error
    for key in ("kinds", "exclude_kinds", "every"):
        for word in getattr(found, key):
            if word not in _KINDS:
                raise ConfigurationError(f"{owner}: {key}: there is no kind {word!r}. Kinds: {', '.join(_KINDS)}")
    for word, seconds in found.every.items():
        if word not in _SERIES:
            raise ConfigurationError(
                f"{owner}: every: {word!r} has no series. Kinds that have: {', '.join(_SERIES)}. To keep all of it "
                f"back: exclude_kinds=[{word!r}]"
            )
        if not 0 < seconds < math.inf:
            raise ConfigurationError(f"{owner}: every: {word!r} takes a number of seconds above 0, not {seconds!r}")
    return found


def _from_text(key: str, text: str, owner: str) -> Any:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if key != "every":
        return words
    pairs = [word.partition("=") for word in words]
    for word, equals, _ in pairs:
        if not equals:
            raise ConfigurationError(f"{owner}: every: {word!r} is no KIND=SECONDS, as image=60,histogram=30")
    return {word.strip(): seconds.strip() for word, _, seconds in pairs}


class FilterState:
    """A filter at work on one journal, whose records come by their numbers.

    A decision looks at the record itself and at what went before it, never at how records come together in batches:
    `sift` may be asked again for what was not handed over, and remembers nothing until `commit`.
    """

    def __init__(self, accepts: tuple[type[Record], ...], wanted: Filter) -> None:
        self._places = frozenset(one for one in KINDS if issubclass(one, accepts))
        self._lets_all = wanted == Filter()
        self._kinds = {one: wanted.of_kind(word) if one in self._places else NO_PLACE for word, one in _KINDS.items()}
        self._by_name = _by_name(wanted)
        self._every = {_KINDS[word]: seconds for word, seconds in wanted.every.items()}
        self._last: dict[_Series, float] = {}
        self._passed: list[tuple[int, _Series, float]] = []

    @property
    def looks_back(self) -> bool:
        """Decisions depend on what went before: a sieve for the middle of a journal is given its beginning first."""
        return bool(self._every)

    def sift(self, first: int, records: Sequence[Record]) -> tuple[list[Numbered], list[tuple[int, str]]]:
        """The records, of which the first has the number `first`, that the backend gets; the numbers of the others,
        each with the key that keeps it back."""
        if self._lets_all:
            places = self._places
            kept = [(seq, one) for seq, one in enumerate(records, first) if one.__class__ in places]
            if len(kept) == len(records):
                return kept, []
            return kept, [(seq, NO_PLACE) for seq, one in enumerate(records, first) if one.__class__ not in places]
        passed: dict[_Series, float] = {}
        self._passed.clear()
        kept, others = [], []
        for seq, record in enumerate(records, first):
            reason = self._reason(seq, record, passed)
            if reason is None:
                kept.append((seq, record))
            else:
                others.append((seq, reason))
        return kept, others

    def commit(self, last: int) -> None:
        """What was sifted is handed over up to number `last`."""
        for seq, series, wall_time in self._passed:
            if seq <= last:
                self._last[series] = wall_time
        self._passed.clear()

    def _reason(self, seq: int, record: Record, passed: dict[_Series, float]) -> str | None:
        reason = self._kinds[record.__class__]
        if reason is not None or isinstance(record, RunRecord):
            return reason
        reason = self._by_name(record.tag)
        if reason is not None or record.__class__ not in self._every:
            return reason
        series = record.__class__, record.tag
        before = passed.get(series, self._last.get(series))
        # Either way: a clock that is set back begins anew. Written so that a wall time of NaN is let through.
        if before is not None and abs(record.wall_time - before) < self._every[record.__class__]:
            return "every"
        passed[series] = record.wall_time
        self._passed.append((seq, series, record.wall_time))
        return None


def _by_name(wanted: Filter) -> Callable[[str], str | None]:
    """Name -> the key that keeps it back, if one does."""
    include, exclude = _any_of(wanted.include), _any_of(wanted.exclude)

    @functools.lru_cache(_NAMES)
    def reason(name: str) -> str | None:
        if include is not None and not include.match(name):
            return "include"
        return "exclude" if exclude is not None and exclude.match(name) else None

    return reason


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, patterns))) if patterns else None
