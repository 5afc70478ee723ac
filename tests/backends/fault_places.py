"""Define the places of the fault matrix: real stores and servers, or stand-ins for servers.

Each can misbehave, and returns its content. To add a vendor, define a class here and add it to `PLACES`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
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
from backends.store_content import StoreContent

ALL = ("down at start", "down in mid-run", "down at stop", "hangs", "401", "429", "500", "slow")
_NO_SERVER = "there is no server"


class Place:
    """Base class of places."""

    name: ClassVar[str]
    backend: ClassVar[str]
    void: ClassVar[dict[str, str]] = {}
    """Cells that do not apply here, with the reason."""
    ordered: ClassVar[bool] = True
    """True if it returns points in the order of the calls."""
    from_start: ClassVar[bool] = False
    """True if it can misbehave only from the start of a run."""
    reported: ClassVar[frozenset[str]] = frozenset(ALL) - {"slow", "down at stop"}
    """Cells in which the run logs why records are pending."""
    lags: ClassVar[bool] = True
    """True if records count as pending until the server has them; if False, the vendor stores them in its own file."""
    in_time: ClassVar[bool] = True
    """True if each point keeps its time; if False, it has the time of its row, within a second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def config(self) -> dict[str, Any]:
        """Return the configuration of a new run. `stored` reads that run."""
        raise NotImplementedError

    def set(self, mode: str) -> None:
        """Change the mode, which is one of `FaultProxy`."""
        raise NotImplementedError

    def stored(self, run: Path) -> StoreContent:
        """Return the content of the run whose folder is `run`."""
        raise NotImplementedError

    def close(self) -> None:
        """End all processes and connections, in whatever state they are."""


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

    def stored(self, run: Path) -> StoreContent:
        id = json.loads((run / "mlflow.json").read_text())["run_id"]
        runs = mlflow_store.runs(self._server.database, self._server.artifacts)
        (found,) = [run for run in runs if run.id == id]
        return mlflow_store.to_content(found)

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

    def stored(self, run: Path) -> StoreContent:
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
    """A local repository whose run is locked by another process."""

    name, backend = "Aim repository, locked", "aim"
    ordered, from_start = False, True
    void: ClassVar[dict[str, str]] = {
        "down in mid-run": "the writer of a run holds its lock until the end",
        **dict.fromkeys(("hangs", "401", "429", "500", "slow"), _NO_SERVER),
    }

    def __init__(self, folder: Path) -> None:
        from aim import Run

        super().__init__(folder)
        self._holder: subprocess.Popen[str] | None = None
        self._run = Run

    def config(self) -> dict[str, Any]:
        run = self._run(repo=str(self.folder), system_tracking_interval=None, capture_terminal_logs=False)
        self._hash = run.hash
        run.close()
        for container in list(run.repo.container_pool.values()):
            container.close()
        quiet = {"system_tracking_interval": None, "capture_terminal_logs": False}
        return {"repo": str(self.folder), "run_hash": self._hash, **quiet}

    def set(self, mode: str) -> None:
        self._unlock()
        if mode != "pass":
            command = [sys.executable, "-c", _HOLDER, str(self.folder), self._hash]
            pipe = subprocess.PIPE
            self._holder = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
            assert self._holder.stdout is not None
            assert self._hash == self._holder.stdout.readline().strip()

    def _unlock(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                holder.communicate("\n", timeout=20)
            if holder.poll() is None:
                holder.kill()
                holder.wait(10)

    def stored(self, run: Path) -> StoreContent:
        return aim_store.stored(self.folder, self._hash)

    def close(self) -> None:
        self._unlock()


class Clearml(_BehindProxy):
    """The stand-in for ClearML's API and file server. Like the real one, `stored` ignores repeated events."""

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

    def stored(self, run: Path) -> StoreContent:
        id = json.loads((run / "clearml.json").read_text())["id"]
        events = [event for event in self._server.events if event["task"] == id]
        once = {json.dumps(event, sort_keys=True): event for event in events}
        content = StoreContent()
        clearml_store.add(once.values(), self._server.tasks[id], self._load, content)
        return content

    def _load(self, url: str) -> bytes:
        return self._server.load(url.replace(self.proxy.address, f"127.0.0.1:{self._server.port}"))

    def close(self) -> None:
        self._server.stop()
        self.proxy.close()


class CsvFull(Place):
    """A folder on a small disk, which is filled by other data."""

    name, backend = "csv, disk full", "csv"
    void = dict.fromkeys(("hangs", "401", "429", "500", "slow"), _NO_SERVER)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._disk = folder / "disk"
        self._disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(self._disk)], check=True, timeout=10)

    @staticmethod
    def can_mount() -> bool:
        """Return True if this process can mount a disk."""
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

    def stored(self, run: Path) -> StoreContent:
        found = [path.parent for path in self._disk.glob("*/run.json") if run.name in path.read_text()]
        (folder,) = found
        return csv_store.stored(folder)

    def close(self) -> None:
        subprocess.run(["umount", str(self._disk)], check=False, timeout=10)


class Wandb(_BehindProxy):
    """The stand-in for W&B's server.

    During a run, wandb's service handles faults with the run's file. A run that starts without a server stays in
    wandb's offline mode, and is uploaded at its end.
    """

    name, backend = "wandb stand-in", "wandb"
    reported, in_time, lags = frozenset({"down at start"}), False, False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._server = wandb_server.WandbServer().start()
        self.proxy = FaultProxy(f"127.0.0.1:{self._server.port}")

    def config(self) -> dict[str, Any]:
        url, settings = f"http://{self.proxy.address}", {"x_file_stream_transmit_interval": 0.5}
        options = {"dir": str(self.folder), "mode": "online", "finish_timeout": 4.0}
        return {"backend_url": url, "api_key": self._server.key, "settings": settings, **options}

    def stored(self, run: Path) -> StoreContent:
        return wandb_server.content(self._server, json.loads((run / "wandb.json").read_text())["id"])

    def close(self) -> None:
        import wandb

        wandb.teardown()
        self._server.stop()
        self.proxy.close()


PLACES: tuple[type[Place], ...] = (Mlflow, AimRemote, AimLocked, Clearml, CsvFull, Wandb)


@contextlib.contextmanager
def opened(kind: type[Place], folder: Path) -> Iterator[Place]:
    """Open a place until the block ends."""
    place = kind(folder)
    try:
        yield place
    finally:
        place.close()


def until(condition: Callable[[], object], deadline: float = 40.0) -> bool:
    """Wait until `condition()` is true. Return False if it is not within `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
