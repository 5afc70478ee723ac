"""Define `run.config`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tracelet.capture.values import to_plain
from tracelet.compat.wandb.base import Value
from tracelet.compat.wandb.errors import ConfigError, Error
from tracelet.guard import shown

_DEFAULTS = "config-defaults.yaml"


class Config:
    """Map names to values, also as attributes. A value can only change with `allow_val_change=True`."""

    def __init__(self, on_change: Callable[[Mapping[str, Any]], None] = lambda values: None) -> None:
        self.__dict__["_on_change"] = on_change
        self.__dict__["_items"] = {}
        self.__dict__["_locked"] = set()

    def _load(self, values: Mapping[str, Any]) -> None:
        """Set the values of an earlier process, which the run has."""
        self._items.update(values)

    def update(self, d: Any = None, allow_val_change: bool | None = None, **more: Any) -> None:
        """Set several values.

        Args:
            d: A dict, a namespace or other object with attributes, or the path of a YAML file.

        Raises:
            ConfigError: a value would change. Nothing is set then.
        """
        self._change({**parsed(d), **more}, bool(allow_val_change))

    def setdefaults(self, d: Any = None, **more: Any) -> None:
        """Set the values whose names are new."""
        values = {**parsed(d), **more}
        self._change({name: value for name, value in values.items() if name not in self._items}, False)

    def update_locked(self, d: Any, user: str | None = None, _allow_val_change: bool | None = None) -> None:
        """Set values that later calls cannot change; these are ignored."""
        values = parsed(d)
        self._change(values, True)
        self._locked.update(values)

    merge_locked = update_locked

    def _change(self, values: Mapping[str, Any], may_change: bool) -> None:
        clean: dict[str, Any] = {}
        for name, value in values.items():
            key = str(name).strip("-")
            if key in self._locked:
                continue
            if isinstance(value, Value):
                raise TypeError(f"config: {key!r} cannot be a media object, got {shown(value)}")
            clean[key] = to_plain(value)
            if not may_change and key in self._items and _differ(self._items[key], clean[key]):
                raise ConfigError(
                    f"config: {key!r} is {shown(self._items[key])}, and would become {shown(clean[key])}. To change "
                    "it, use config.update(..., allow_val_change=True)"
                )
        self._items.update(clean)
        if clean:
            self._on_change(clean)

    def persist(self) -> None:
        """Log all values again."""
        self._on_change(dict(self._items))

    def as_dict(self) -> dict[str, Any]:
        return dict(self._items)

    def _as_dict(self) -> dict[str, Any]:
        return dict(self._items)

    def keys(self) -> list[str]:
        return [name for name in self._items if not name.startswith("_")]

    def values(self) -> list[Any]:
        return [self._items[name] for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        return [(name, self._items[name]) for name in self.keys()]

    def get(self, name: str, default: Any = None) -> Any:
        return self._items.get(name, default)

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._change({name: value}, False)

    def __delitem__(self, name: str) -> None:
        del self._items[name]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_items"][name]
        except KeyError:
            raise AttributeError(f"the config has no {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"the config has no {name!r}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __bool__(self) -> bool:
        return bool(self._items)

    def __repr__(self) -> str:
        return repr(self._items)

    def __reduce__(self) -> tuple[Any, ...]:
        return _copied, (self._items,)


def _copied(values: Mapping[str, Any]) -> Config:
    """Return a config without a run, for `copy` and `pickle`."""
    config = Config()
    config._load(values)
    return config


def _differ(value: Any, other: Any) -> bool:
    return bool(value != other) and repr(value) != repr(other)  # NaN differs from itself


class StaticConfig:
    """A copy of the values that cannot change."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("config_static cannot be changed; use config")

    def __getitem__(self, name: str) -> Any:
        return self.__dict__[name]

    def keys(self) -> list[str]:
        return list(self.__dict__)

    def __repr__(self) -> str:
        return repr(self.__dict__)


def parsed(
    values: Any, include: list[str] | tuple[str, ...] | None = None, exclude: list[str] | tuple[str, ...] | None = None
) -> dict[str, Any]:
    """Return values as a dict: of a dict, an object with attributes (argparse, absl flags), or a YAML file.

    Raises:
        Error: there is no such file, or both `include` and `exclude` are given.
        TypeError: it is none of these.
    """
    if include and exclude:
        raise Error("config_include_keys and config_exclude_keys exclude each other; pass one")
    match values:
        case None:
            found: dict[str, Any] = {}
        case str() | os.PathLike():
            found = _of_file(Path(values))
        case Config():
            found = values.as_dict()
        case Mapping():
            found = {str(name): value for name, value in values.items()}
        case _ if hasattr(values, "flag_values_dict"):  # absl
            found = dict(values.flag_values_dict())
        case _ if hasattr(values, "__dict__"):
            found = {name: value for name, value in vars(values).items() if not name.startswith("__")}
        case _:
            raise TypeError(f"config must be a dict, an object with attributes or a YAML file, got {shown(values)}")
    if include:
        return {name: value for name, value in found.items() if name in include}
    return {name: value for name, value in found.items() if name not in (exclude or ())}


def defaults() -> dict[str, Any]:
    """Return the values of `config-defaults.yaml` in the working directory, if there is one."""
    path = Path(_DEFAULTS)
    return _of_file(path) if path.is_file() else {}


def _of_file(path: Path) -> dict[str, Any]:
    """Read a YAML file: `name: value`, or `name: {desc: ..., value: ...}`."""
    try:
        import yaml
    except ImportError:
        raise Error(f"config: to read {path}, install PyYAML: pip install pyyaml") from None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Error(f"config: cannot read {str(path)!r}: {error}") from error
    if not isinstance(content, Mapping):
        raise Error(f"config: {str(path)!r} must have names and values")
    if content.get("wandb_version") == 1:
        content = {name: value for name, value in content.items() if name not in ("wandb_version", "_wandb")}
    return {
        str(name): value["value"] if isinstance(value, Mapping) and "value" in value else value
        for name, value in content.items()
    }
