"""Keep the hyperparameters of each trial of a run under the trial's name, and all trials in one table.

A trial is a set of hyperparameters in a directory: a call of add_hparams, or an event file with a session. Its name is
the prefix of its metrics.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from tracelet.capture import media, naming
from tracelet.records import Params, Scalar, Table

_ROOT = "."
_FACT = "trial "


class Trial(msgspec.Struct):
    """The hyperparameters and last metrics of a trial; `digest` identifies the hyperparameters."""

    digest: str
    values: dict[str, Any] = {}
    metrics: dict[str, Any] = {}


class Trials:
    """The trials of a run, by name. `on_trial(name, digest)` is called for a new one; `known` has the earlier ones.

    The parameters of the first trial keep their plain names. If another one has other values, each trial's are also
    under its name: `lr`, `hparams.lr`, `hparams-2.lr`.
    """

    def __init__(
        self, known: Mapping[str, Trial] | None = None, on_trial: Callable[[str, str], None] = lambda name, digest: None
    ) -> None:
        self.known: dict[str, Trial] = copy.deepcopy(dict(known or {}))
        self._on_trial = on_trial
        self._differ = _differ(self.known)

    @classmethod
    def resumed(cls, facts: Mapping[str, Any], annotate: Callable[[str, Any], None]) -> Trials:
        """Return the trials in the facts of a run, without their values. Store new ones there with `annotate`."""
        found = sorted((*fact, name.removeprefix(_FACT)) for name, fact in facts.items() if name.startswith(_FACT))
        trials = cls({name: Trial(digest) for _, digest, name in found})
        trials._on_trial = lambda name, digest: annotate(_FACT + name, (len(trials.known), digest))
        return trials

    def unused(self, name: str, values: Mapping[str, Any]) -> str:
        """Return the first of `name`, `name-2`, `name-3`, ... that has these values, or none yet. Take it for them."""
        digest, name = _digest(values), name or _ROOT
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(candidate for candidate in names if self._trial(candidate, digest).digest == digest)

    def split(self, params: Params, *, is_new_call: bool) -> Iterator[Params]:
        """Yield the parameters by the rule above.

        If a directory has other values already, `is_new_call` makes a new trial of them; otherwise they are updated.
        """
        name = params.writer or _ROOT
        if is_new_call:
            name = self.unused(name, params.values)
        trial = self._trial(name, _digest(params.values))
        trial.values.update(params.values)
        trial.digest = _digest(trial.values)
        if trial.digest == next(iter(self.known.values())).digest:
            yield params
        changed = [name] if self._differ else list(self.known)
        self._differ = self._differ or _differ(self.known)
        if self._differ:
            for name in changed:
                values = {f"{name}.{key}": value for key, value in self.known[name].values.items()}
                if values:  # a resumed run has the earlier ones already
                    yield Params(values, params.wall_time, params.writer)

    def add_metrics(self, name: str, metrics: Mapping[str, Any]) -> None:
        """Store the last values of a trial's metrics, for the table."""
        trial = self.known.get(name or _ROOT)
        if trial is not None:
            trial.metrics.update(metrics)

    def add_scalar(self, scalar: Scalar) -> None:
        """Store the value, if the scalar is in the directory of a trial."""
        trial = self.known.get(scalar.writer or _ROOT)
        if trial is not None:
            tag = scalar.tag.removeprefix(f"{scalar.writer}/")
            if tag == scalar.tag:  # `naming.metric_name` leaves out the directory
                tag = tag.removeprefix(scalar.writer.rpartition("/")[0]).lstrip("/")
            trial.metrics[tag] = scalar.value

    def table(self, tag: str, wall_time: float) -> Table | None:
        """Return a table of the trials, one in each row; None if all have the same values."""
        trials = {name: trial for name, trial in list(self.known.items()) if trial.values}
        if not _differ(trials):
            return None
        columns: dict[tuple[bool, str], str] = {}
        for is_metric in (False, True):
            for trial in trials.values():
                for key in trial.metrics if is_metric else trial.values:
                    if (is_metric, key) not in columns:
                        columns[is_metric, key] = naming.unused(key, {"trial", *columns.values()})
        rows = [
            [name, *((trial.metrics if is_metric else trial.values).get(key) for is_metric, key in columns)]
            for name, trial in trials.items()
        ]
        return Table(tag, media.table(["trial", *columns.values()], rows), None, wall_time)

    def _trial(self, name: str, digest: str) -> Trial:
        new = Trial(digest)
        trial = self.known.setdefault(name, new)  # atomic: two threads cannot both get the name
        if trial is new:
            self._on_trial(name, digest)
        return trial


def _differ(trials: Mapping[str, Trial]) -> bool:
    return len({trial.digest for trial in list(trials.values())}) > 1


def _digest(values: Mapping[str, Any]) -> str:
    """Return the same digest for the values of a call and of its event file, which has floats instead of ints."""
    plain = [
        (name, float(value) if isinstance(value, int) else value)
        for name, value in sorted(values.items())
        if value is not None
    ]
    return hashlib.sha256(repr(plain).encode()).hexdigest()[:16]
