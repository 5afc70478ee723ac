"""Write the run's parameters. MLflow stores them as text, and never changes the first value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracelet.backends.mlflow.run import Target
from tracelet.backends.mlflow.summary import read_artifact_json
from tracelet.backends.mlflow.values import PARAM_TAG, key_of, param_tag, param_text
from tracelet.guard import logger

PARAMS_FILE = "tracelet/params.json"
LENGTHS = (6000, 500, 250)
"""Maximum lengths of a value in MLflow's releases, newest first."""
_TAG_LENGTH = 4000


class Parameters:
    """Track parameters. `exact`: the last value of each. `shown`: MLflow's text of each, by key."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.shown: dict[str, str] = dict(target.run.data.params)
        self._tags = {name: text for name, text in target.run.data.tags.items() if name.startswith(PARAM_TAG)}
        self._warned = False
        self.max_length = LENGTHS[0]
        self.exact: dict[str, Any] = read_artifact_json(target, PARAMS_FILE) if self.shown else {}

    def refresh(self) -> None:
        """Read the parameters that the program itself, or another process, has logged."""
        self.shown |= self._target.client.get_run(self._target.id).data.params

    def new(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return the texts of parameters that MLflow does not have yet, by key."""
        texts = {key_of(name): param_text(value, self.max_length) for name, value in values.items()}
        return {key: text for key, text in texts.items() if key not in self.shown}

    def changed(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return run tags with the values that MLflow's parameters cannot show."""
        tags = {}
        for name, value in values.items():
            key, text = key_of(name), param_text(value, LENGTHS[0])
            tag = param_tag(key)
            if tag in self._tags or not self._is_shown(key, text):
                tags[tag] = param_text(text, _TAG_LENGTH)
        tags = {tag: text for tag, text in tags.items() if self._tags.get(tag) != text}
        if tags:
            self._warn(next(iter(tags)))
        return tags

    def _is_shown(self, key: str, text: str) -> bool:
        shown = self.shown.get(key)
        return shown == text or (shown is not None and len(shown) in LENGTHS and text.startswith(shown[:-1]))

    def _warn(self, tag: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "mlflow: a parameter keeps its first value; the new one is in the run tag %r, and all values are in "
                "the artifact %s",
                tag,
                PARAMS_FILE,
            )

    def update(self, values: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
        """Add values and tags that are in the store, and return the new content of the parameters file."""
        self._tags |= tags
        self.exact |= values
        return self.exact
