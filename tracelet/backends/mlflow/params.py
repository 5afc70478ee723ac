"""The run's parameters: MLflow keeps the first value of each for ever, and as text."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tracelet.backends.mlflow.run import Target
from tracelet.backends.mlflow.summary import kept_json
from tracelet.backends.mlflow.values import PARAM_TAG, key_of, param_tag, param_text

_logger = logging.getLogger("tracelet")

PARAMS_FILE = "tracelet/params.json"
LENGTHS = (6000, 500, 250)
"""What MLflow's servers took of one value, the newest first."""
_TAG_LENGTH = 4000


class Parameters:
    """`exact`: every value as the program last gave it. `shown`: what MLflow shows, by key."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.shown: dict[str, str] = dict(target.run.data.params)
        self._tags = {name: text for name, text in target.run.data.tags.items() if name.startswith(PARAM_TAG)}
        self._said = False
        self.most = LENGTHS[0]
        self.exact: dict[str, Any] = kept_json(target, PARAMS_FILE) if self.shown else {}

    def look(self) -> None:
        """Learn what the program itself, or another process, made of the run's parameters."""
        self.shown |= self._target.client.get_run(self._target.id).data.params

    def new(self, values: Mapping[str, Any]) -> dict[str, str]:
        """The texts of what MLflow does not show yet, by key."""
        texts = {key_of(name): param_text(value, self.most) for name, value in values.items()}
        return {key: text for key, text in texts.items() if key not in self.shown}

    def changed(self, values: Mapping[str, Any]) -> dict[str, str]:
        """The run tags that hold what MLflow's parameters cannot show any more."""
        tags = {}
        for name, value in values.items():
            key, text = key_of(name), param_text(value, LENGTHS[0])
            tag = param_tag(key)
            if tag in self._tags or not self._is_shown(key, text):
                tags[tag] = param_text(text, _TAG_LENGTH)
        tags = {tag: text for tag, text in tags.items() if self._tags.get(tag) != text}
        if tags:
            self._say(next(iter(tags)))
        return tags

    def _is_shown(self, key: str, text: str) -> bool:
        shown = self.shown.get(key)
        return shown == text or (shown is not None and len(shown) in LENGTHS and text.startswith(shown[:-1]))

    def _say(self, tag: str) -> None:
        if not self._said:
            self._said = True
            _logger.warning(
                "mlflow: a parameter keeps the first value it was given; the new one is in the run tag %r, and all "
                "are in the artifact %s",
                tag,
                PARAMS_FILE,
            )

    def took(self, values: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
        """The tags are in the store; gives what the file of all values holds from now on."""
        self._tags |= tags
        self.exact |= values
        return self.exact
