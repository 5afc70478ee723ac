"""Start a program under torchrun, on one or two nodes of this machine."""

import contextlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backends.mlflow_server import free_port

DEADLINE = 240
PER_NODE = 2


def torchrun(folder: Path, program: str, *, nodes: int = 2, **variables: str) -> dict[int, dict[str, Any]]:
    """Run a program in two processes per node. Return what each rank printed, by rank; its last line is JSON."""
    with launched(folder, program, nodes=nodes, **variables) as launchers:
        for launcher in launchers:
            _, errors = launcher.communicate(timeout=DEADLINE)
            assert 0 == launcher.returncode, errors + logged(folder)
    results = [json.loads(output.splitlines()[-1]) for output in outputs(folder)]
    return {result["rank"]: result for result in results}


@contextlib.contextmanager
def launched(
    folder: Path, program: str, *options: str, nodes: int = 1, **variables: str
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start torchrun once per node. What still runs at the end of the block is killed, with its ranks."""
    script = folder / "train.py"
    script.write_text(textwrap.dedent(program), encoding="utf-8")
    port = free_port()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHELASTIC_ERROR_FILE": str(folder / "error"), **variables}
    launchers: list[subprocess.Popen[str]] = []
    try:
        for node in range(nodes):
            command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(nodes)]
            command += ["--nproc-per-node", str(PER_NODE), "--redirects", "3", "--log-dir", str(folder / f"log-{node}")]
            address = ["--node-rank", str(node), "--master-addr", "127.0.0.1", "--master-port", str(port)]
            command += ["--standalone"] if nodes == 1 else address
            pipe = subprocess.PIPE
            launchers.append(
                subprocess.Popen(
                    [*command, *options, str(script)], cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True
                )
            )
        yield launchers
    finally:
        for launcher in launchers:
            if launcher.poll() is None:  # torchrun ends its ranks when it is asked to
                launcher.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    launcher.communicate(timeout=40)
                launcher.kill()
            launcher.wait()


def outputs(folder: Path) -> list[str]:
    """Return what the ranks wrote to stdout, at each start."""
    return [path.read_text() for path in sorted(folder.glob("log-*/*/attempt_*/*/stdout.log"))]


def logged(folder: Path) -> str:
    """Return what all ranks wrote to stderr."""
    return "".join(path.read_text() for path in sorted(folder.glob("log-*/*/attempt_*/*/stderr.log")))
