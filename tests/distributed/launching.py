"""Start a program under torchrun, on one or two nodes of this machine."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from backends.mlflow_server import free_port

DEADLINE = 240
PER_NODE = 2


def torchrun(
    folder: Path, program: str, *, nodes: int = 2, options: tuple[str, ...] = (), **variables: str
) -> dict[int, dict[str, Any]]:
    """Run a program in two processes per node. Return what each rank printed, by rank; its last line is JSON."""
    script = folder / "train.py"
    script.write_text(textwrap.dedent(program), encoding="utf-8")
    port = free_port()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHELASTIC_ERROR_FILE": str(folder / "error"), **variables}
    running = []
    for node in range(nodes):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(nodes)]
        command += ["--nproc-per-node", str(PER_NODE), "--node-rank", str(node), "--master-addr", "127.0.0.1"]
        command += ["--master-port", str(port), "--redirects", "3", "--log-dir", str(folder / f"log-{node}")]
        pipe = subprocess.PIPE
        running.append(
            subprocess.Popen(
                [*command, *options, str(script)], cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True
            )
        )
    try:
        for launcher in running:
            _, errors = launcher.communicate(timeout=DEADLINE)
            assert 0 == launcher.returncode, errors + _logs(folder, "stderr.log")
    finally:
        for launcher in running:
            launcher.kill()
            launcher.wait()
    outputs = [path.read_text() for path in folder.glob("log-*/*/attempt_0/*/stdout.log")]
    results = [json.loads(output.splitlines()[-1]) for output in outputs]
    return {result["rank"]: result for result in results}


def _logs(folder: Path, name: str) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob(f"log-*/*/attempt_*/*/{name}")))


def logged(folder: Path) -> str:
    """Return what all ranks wrote to stderr."""
    return _logs(folder, "stderr.log")
