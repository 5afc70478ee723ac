"""What ranks cost: one that does not log, and 64 that log to one run of one MLflow server.

`python -m benchmarks.ranks silent FOLDER` and `... shared COUNT FOLDER` measure in one process, or start the others.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
import tracemalloc
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import turns
from benchmarks.loops import SCALARS, WARM, loop
from benchmarks.runs import peak_mib, settle

NAME, REPEATS = "Ranks", 3
RANKS, RECORDS, LIMIT = 64, 2_000, 900
SILENT_CALLS = 100_000

SILENT_COLUMNS = {
    "start_ms": "start ms",
    "ratio": "ratio",
    "each_us": "call us",
    "plain_us": "TensorBoard alone us",
    "grown_bytes": "bytes grown",
}
SHARED_COLUMNS = {
    "ranks": "ranks",
    "submitted": "submitted",
    "read_back": "read back",
    "distinct": "distinct",
    "requests": "requests",
    "per_thousand": "requests per 1,000 records",
    "seconds": "s from the first start to the last end",
    "total_mib": "MiB of all ranks",
}
EXPLANATION = """\
*A silent rank*: `start_logging` after the import of tracelet, then 20,000 `add_scalar` as in *Tight loops*, and what
100,000 `log_metric` leave in memory. *A shared run*: each rank is a process that logs 2,000 scalars by `log_metric`, as
fast as it can and without torch, to one run of one `mlflow server` with a database of SQLite, which takes one request
at a time. *Requests* counts those of all ranks, from the connection to the end; the memory is the sum of the
processes' peaks, in which MLflow's own import is most."""


def take(repeats: int, *, long: bool) -> dict[str, Any]:
    silent = turns.in_turns(["a silent rank"], repeats, lambda row: turns.measure("benchmarks.ranks", "silent"))
    ranks = [str(RANKS // 8), str(RANKS)]
    shared = turns.in_turns(ranks, 1, lambda count: turns.measure("benchmarks.ranks", "shared", count, limit=LIMIT))
    return {"silent": silent, "shared": {f"{count} ranks": found for count, found in shared.items()}}


def render(found: dict[str, Any]) -> list[str]:
    tables = [turns.table(found["silent"], SILENT_COLUMNS), turns.table(found["shared"], SHARED_COLUMNS)]
    return [*EXPLANATION.splitlines(), "", *tables[0], "", *tables[1]]


def silent(folder: Path) -> dict[str, float]:
    settle(folder)
    from torch.utils.tensorboard import SummaryWriter

    import tracelet

    tracelet.start_logging  # noqa: B018 - its import is not part of the start
    loop(SummaryWriter(folder / "warm"), WARM)
    before = loop(SummaryWriter(folder / "before"), SCALARS)
    os.environ |= {"RANK": "1", "WORLD_SIZE": "2"}
    began = time.perf_counter()
    experiment = tracelet.start_logging(backend="wandb", dir=folder / "runs")
    started = time.perf_counter()
    assert not experiment
    attached = loop(SummaryWriter(folder / "events"), SCALARS)
    after = loop(SummaryWriter(folder / "after"), SCALARS)
    plain = (before[-1] + after[-1]) / 2
    experiment.log_metric("loss", 0.5, 0)
    gc.collect()
    tracemalloc.start()
    for step in range(SILENT_CALLS):
        experiment.log_metric("loss", 0.5, step)
    gc.collect()
    return {
        "start_ms": (started - began) * 1e3,
        "ratio": attached[-1] / plain,
        "each_us": attached[-1] / SCALARS / 1e3,
        "plain_us": plain / SCALARS / 1e3,
        "grown_bytes": tracemalloc.get_traced_memory()[0],
    }


def shared(count: int, folder: Path) -> dict[str, float]:
    with server(folder) as url:
        began = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.ranks", "rank", url, str(folder)]
        variables = {"WORLD_SIZE": str(count), "MLFLOW_HTTP_REQUEST_TIMEOUT": "120"}  # their requests wait in line
        ranks = [
            subprocess.Popen(
                command,
                env={**os.environ, **variables, "RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for rank in range(count)
        ]
        try:
            found = [json.loads(rank.communicate(timeout=LIMIT)[0].splitlines()[-1]) for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
            for rank in ranks:
                rank.wait()
        seconds = time.perf_counter() - began
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as db:
        points = db.execute("SELECT key, step FROM metrics WHERE key LIKE '%loss'").fetchall()
    requests, submitted = sum(one["requests"] for one in found), count * RECORDS
    return {
        "ranks": count,
        "submitted": submitted,
        "read_back": len(points),
        "distinct": len(set(points)),
        "requests": requests,
        "per_thousand": requests * 1000 / submitted,
        "seconds": seconds,
        "total_mib": sum(one["peak_mib"] for one in found),
    }


def one_rank(url: str, folder: Path) -> dict[str, float]:
    """Log as one rank, and count the requests of this process."""
    settle(folder)
    import requests

    import tracelet

    sent, send = [], requests.Session.send

    def counted(session: Any, request: Any, **options: Any) -> Any:
        sent.append(request.url)
        return send(session, request, **options)

    requests.Session.send = counted  # type: ignore[method-assign]
    experiment = tracelet.start_logging(
        project="ranks",
        backend="mlflow",
        backend_url=url,
        run_id="ranks",
        run_mode="shared",
        dir=folder / "runs",
        collect=False,
        connect_timeout=LIMIT,
        flush_timeout=LIMIT,
    )
    for step in range(RECORDS):
        experiment.log_metric("loss", step * 0.1, step)
    experiment.stop()
    assert RECORDS == experiment.stats().backends["mlflow"].delivered, experiment.stats()
    return {"requests": len(sent), "peak_mib": peak_mib()}


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run `mlflow server` on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # One request at a time: SQLite lets 40 threads of 64 clients lock each other out, and the server stands still.
    command += ["--gunicorn-opts", "--threads 1 --timeout 600"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 9)
        process.wait()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["silent", folder]:
            print(json.dumps(silent(Path(folder))))
        case ["shared", count, folder]:
            print(json.dumps(shared(int(count), Path(folder))))
        case ["rank", url, folder]:
            print(json.dumps(one_rank(url, Path(folder))))
