"""Draws `five-backends.png`: examples/any_backend.py with each backend, and what the tests' readers find in the stores.

python docs/pictures/five_backends.py
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from backends.stores import READERS  # noqa: E402


def main() -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 3.4), layout="constrained")
    charts = figure.subplots(1, len(READERS), sharex=True, sharey=True)
    for chart, (backend, reader) in zip(charts, READERS.items(), strict=True):
        with tempfile.TemporaryDirectory() as folder:
            curves = read(backend, Path(folder), reader)
        for tag, points in sorted(curves.items()):
            chart.plot(*zip(*sorted(points), strict=True), label=tag, linewidth=1.2)
        chart.set_title(f"--backend {backend}", family="monospace", fontsize=11)
        chart.set_xlabel(f"step, {sum(map(len, curves.values()))} points", fontsize=9)
        chart.set_yscale("log")
        chart.grid(visible=True, alpha=0.3)
    charts[0].legend(fontsize=9)
    figure.savefig(HERE / "five-backends.png", dpi=90)


def read(backend: str, folder: Path, reader: object) -> dict[str, list[tuple[int, float]]]:
    """The curves in the store after the example has run in `folder`."""
    program = [sys.executable, str(ROOT / "examples" / "any_backend.py"), "--backend", backend]
    places = {"HOME": folder, "WANDB_DIR": folder / "demo", "CLEARML_CACHE_DIR": folder / "demo" / "clearml"}
    environment = {**os.environ, **{name: str(place) for name, place in places.items()}}
    subprocess.run(program, cwd=folder, env=environment, check=True, timeout=240)
    curves: dict[str, list[tuple[int, float]]] = {}
    for tag, step, value, _ in reader(folder / "demo").scalars:  # type: ignore[operator]
        curves.setdefault(tag, []).append((step, value))
    return curves


if __name__ == "__main__":
    main()
