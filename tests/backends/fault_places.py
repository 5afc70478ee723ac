"""The places of the fault matrix: each a real store or server (or the stand-in for one), what can be done to it, and
what it holds in the end. A further vendor is one more class here, and its name in `PLACES`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from backends import (
    aim_server,
    aim_store,
    clearml_server,
    clearml_store,
    csv_store,
    mlflow_server,
    mlflow_store,
    wandb_server,
)
from backends.fault_proxy import FaultProxy

from tracelet.testing import Stored

ALL = ("down at start", "down in mid-run", "down at stop", "hangs", "401", "429", "500", "slow")
_OF_A_SERVER = "there is no server"


class Place:
    """What every place has. `set(mode)` takes the words of `FaultProxy`."""

    name: ClassVar[str]
    backend: ClassVar[str]
    void: ClassVar[dict[str, str]] = {}
    """Cells that mean nothing here, and why."""
    ordered: ClassVar[bool] = True
    from_start: ClassVar[bool] = False
    """What can be done to it can be done before a run begins alone."""
    says: ClassVar[frozenset[str]] = frozenset(ALL) - {"slow", "down at stop"}
    """Cells in which the run says why its records wait."""
    lags: ClassVar[bool] = True
    """What its server has not got counts as pending; else the vendor holds it in a file of its own."""
    in_time: ClassVar[bool] = True
    """Each point has the time that it was given; else that of its row, within a second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def config(self) -> dict[str, Any]:
        """Of a new run, which `stored` reads back."""
        raise NotImplementedError

    def set(self, mode: str) -> None:
        raise NotImplementedError

    def stored(self, run: Path) -> Stored:
        """What the place holds of the run in this folder."""
        raise NotImplementedError

    def close(self) -> None:
        """End what was begun, whatever state it is in."""


class _BehindProxy(Place):
    proxy: FaultProxy

    def set(self, mode: str) -> None:
        self.proxy.set(mode)


class Mlflow(_BehindProxy):
    """A real `mlflow server` over SQLite."""

    name, backend = "MLflow server", "mlflow"

    def __init__(self, folder: Path) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        super().__init__(folder)
        SqlAlchemyStore(f"sqlite:///{folder / 'empty.db'}", "mlflow-artifacts:/").engine.dispose()
        self._server = mlflow_server.Server(folder, folder / "empty.db")
        try:
            self._server.start()
        except BaseException:
            self._server.kill()
            raise
        self.proxy = FaultProxy(self._server.url.removeprefix("http://"))

    def config(self) -> dict[str, Any]:
        url = f"http://{self.proxy.address}"
        return {"backend_url": url, "experiment_name": uuid.uuid4().hex, "timeout": 2}

    def stored(self, run: Path) -> Stored:
        id = json.loads((run / "mlflow.json").read_text())["run_id"]
        (found,) = [one for one in mlflow_store.runs(self._server.database, self._server.artifacts) if one.id == id]
        return mlflow_store.told(found)

    def close(self) -> None:
        self._server.kill()
        self.proxy.close()


class AimRemote(_BehindProxy):
    """A real `aim server`."""

    name, backend = "Aim server", "aim"
    ordered = False

    def __init__(self, folder: Path) -> None:
        from aim.sdk.repo import Repo

        super().__init__(folder)
        Repo(str(folder), init=True)
        self._server = aim_server.Server(folder)
        self.proxy = FaultProxy(f"127.0.0.1:{self._server.port}")

    def config(self) -> dict[str, Any]:
        url = f"aim://{self.proxy.address}"
        return {"repo": url, "system_tracking_interval": None, "capture_terminal_logs": False}

    def stored(self, run: Path) -> Stored:
        (hash,) = json.loads((run / "aim.json").read_text())["runs"].values()
        return aim_store.stored(self.folder, hash)

    def close(self) -> None:
        self._server.stop()
        self.proxy.close()


_HOLDER = """
import sys
from aim import Run
run = Run(sys.argv[2], repo=sys.argv[1], system_tracking_interval=None, capture_terminal_logs=False)
print(run.hash, flush=True)
sys.stdin.readline()
run.close()
"""


class AimLocked(Place):
    """A repository on this machine, whose run another process holds."""

    name, backend = "Aim repository, locked", "aim"
    ordered, from_start = False, True
    void: ClassVar[dict[str, str]] = {
        "down in mid-run": "who writes a run holds its lock, to the end",
        **dict.fromkeys(("hangs", "401", "429", "500", "slow"), _OF_A_SERVER),
    }

    def __init__(self, folder: Path) -> None:
        from aim import Run

        super().__init__(folder)
        self._holder: subprocess.Popen[str] | None = None
        self._run = Run

    def config(self) -> dict[str, Any]:
        made = self._run(repo=str(self.folder), system_tracking_interval=None, capture_terminal_logs=False)
        self._hash = made.hash
        made.close()
        for container in list(made.repo.container_pool.values()):
            container.close()
        quiet = {"system_tracking_interval": None, "capture_terminal_logs": False}
        return {"repo": str(self.folder), "run_hash": self._hash, **quiet}

    def set(self, mode: str) -> None:
        self._let_go()
        if mode != "pass":
            command = [sys.executable, "-c", _HOLDER, str(self.folder), self._hash]
            pipe = subprocess.PIPE
            self._holder = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
            assert self._holder.stdout is not None
            assert self._hash == self._holder.stdout.readline().strip()

    def _let_go(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                holder.communicate("\n", timeout=20)
            if holder.poll() is None:
                holder.kill()
                holder.wait(10)

    def stored(self, run: Path) -> Stored:
        return aim_store.stored(self.folder, self._hash)

    def close(self) -> None:
        self._let_go()


class Clearml(_BehindProxy):
    """The stand-in for ClearML's API and file server. The real one keeps an event once; so does `stored`."""

    name, backend = "ClearML stand-in", "clearml"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._server = clearml_server.ClearmlServer().start()
        self.proxy = FaultProxy(f"127.0.0.1:{self._server.port}")

    def config(self) -> dict[str, Any]:
        url = f"http://{self.proxy.address}"
        keys = {"access_key": "K" * 20, "secret_key": "S" * 40}
        hosts = dict.fromkeys(("backend_url", "web_url", "files_url"), url)
        return {"mode": "online", "auto_resource_monitoring": False, **hosts, **keys}

    def stored(self, run: Path) -> Stored:
        id = json.loads((run / "clearml.json").read_text())["id"]
        events = [one for one in self._server.events if one["task"] == id]
        once = {json.dumps(one, sort_keys=True): one for one in events}
        found = clearml_store.blank()
        clearml_store.tell(once.values(), self._server.tasks[id], self._load, found)
        return found

    def _load(self, url: str) -> bytes:
        return self._server.load(url.replace(self.proxy.address, f"127.0.0.1:{self._server.port}"))

    def close(self) -> None:
        self._server.stop()
        self.proxy.close()


class CsvFull(Place):
    """A folder on a small disk of its own, which somebody else fills."""

    name, backend = "csv, disk full", "csv"
    void = dict.fromkeys(("hangs", "401", "429", "500", "slow"), _OF_A_SERVER)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._disk = folder / "disk"
        self._disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(self._disk)], check=True, timeout=10)

    @staticmethod
    def can_mount() -> bool:
        """Whether this process may have a disk of its own."""
        return sys.platform == "linux" and os.geteuid() == 0 and os.access("/usr/bin/mount", os.X_OK)

    def config(self) -> dict[str, Any]:
        return {"dir": str(self._disk / uuid.uuid4().hex)}

    def set(self, mode: str) -> None:
        filler = self._disk / "filler"
        if mode == "pass":
            filler.unlink(missing_ok=True)
            return
        with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * size) == size:
                        pass

    def stored(self, run: Path) -> Stored:
        found = [path.parent for path in self._disk.glob("*/run.json") if run.name in path.read_text()]
        (folder,) = found
        return csv_store.stored(folder)

    def close(self) -> None:
        subprocess.run(["umount", str(self._disk)], check=False, timeout=10)


class Wandb(_BehindProxy):
    """The stand-in for W&B's server. What a run meets in the middle is its service's own business, which has the run's
    file; one that begins without a server stays in wandb's offline mode, and is handed over at its end."""

    name, backend = "wandb stand-in", "wandb"
    says, in_time, lags = frozenset({"down at start"}), False, False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._server = wandb_server.WandbServer().start()
        self.proxy = FaultProxy(f"127.0.0.1:{self._server.port}")

    def config(self) -> dict[str, Any]:
        url, often = f"http://{self.proxy.address}", {"x_file_stream_transmit_interval": 0.5}
        place = {"dir": str(self.folder), "mode": "online", "finish_timeout": 4.0}
        return {"backend_url": url, "api_key": self._server.key, "settings": often, **place}

    def stored(self, run: Path) -> Stored:
        return wandb_server.told(self._server, json.loads((run / "wandb.json").read_text())["id"])

    def close(self) -> None:
        import wandb

        wandb.teardown()
        self._server.stop()
        self.proxy.close()


PLACES: tuple[type[Place], ...] = (Mlflow, AimRemote, AimLocked, Clearml, CsvFull, Wandb)


@contextlib.contextmanager
def opened(kind: type[Place], folder: Path) -> Iterator[Place]:
    """A place for as long as it is used."""
    place = kind(folder)
    try:
        yield place
    finally:
        place.close()


def until(reached: Any, deadline: float = 40.0) -> bool:
    """Whether `reached()` came true in time."""
    end = time.monotonic() + deadline
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
