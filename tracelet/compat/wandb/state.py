"""What stands for `wandb.config` and `wandb.summary` while there is no run."""

from __future__ import annotations

from typing import Any, NoReturn

from tracelet.compat.wandb.errors import NotInitialised


class BeforeInit:
    """Raise NotInitialised at each use."""

    def __init__(self, name: str) -> None:
        self.__dict__["_name"] = name

    def _raise(self, use: str) -> NoReturn:
        raise NotInitialised(f"You must call wandb.init() before wandb.{self.__dict__['_name']}{use}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._raise(f".{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        self._raise(f".{name}")

    def __getitem__(self, name: str) -> Any:
        self._raise(f"[{name!r}]")

    def __setitem__(self, name: str, value: Any) -> None:
        self._raise(f"[{name!r}]")

    def __repr__(self) -> str:
        return f"<wandb.{self.__dict__['_name']} before wandb.init()>"
