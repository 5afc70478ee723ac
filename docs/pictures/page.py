"""Draws `page.png`: the page of a run that a small program logged, in a headless Chromium.

python docs/pictures/page.py
"""

import math
import os
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from runs import browser  # noqa: E402

import tracelet  # noqa: E402
from tracelet.runs import page, report  # noqa: E402
from tracelet.runs.media import Gallery  # noqa: E402


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.chdir(folder)
        gallery = Gallery()
        page.write_run(report.read(train("csv").folder, see=gallery.add), gallery, folder / "page.html")
        with browser.Browser(browser.installed() or "chromium", folder / "profile") as program:
            tab = program.open(folder / "page.html", width=1160, height=1500)
            tab.evaluate("document.querySelector('#curves details').open = false")
            tab.move((230, 620))
            tab.screenshot(folder / "page.png")
        with Image.open(folder / "page.png") as shot:
            shot.convert("RGB").quantize(128).save(HERE / "page.png", optimize=True)


def train(backend: str) -> tracelet.Experiment:
    """A run that looks like one, ended."""
    rng, numbers = random.Random(0), np.random.default_rng(0)
    with tracelet.start_logging(
        "night-shift",
        project="digits",
        backend=backend,
        tags=["baseline", "augmented"],
        notes="Cosine schedule, longer.",
        collect=False,
    ) as run:
        run.log_params({"lr": 3e-3, "batch": 64, "model": {"layers": [64, 128, 10], "dropout": 0.1}})
        for step in range(2000):
            noise = rng.random() * 0.15 * math.exp(-step / 900)
            run.log_metric("train/loss", 2.3 * math.exp(-step / 500) + 0.06 + noise, step)
            run.log_metric("learning_rate", 3e-3 * (1 + math.cos(math.pi * step / 2000)) / 2, step)
            if step % 50 == 49:
                run.log_metric("val/loss", 2.3 * math.exp(-step / 500) + 0.14 + rng.random() * 0.03, step)
                run.log_metric("val/accuracy", 1 - 0.9 * math.exp(-step / 400) - rng.random() * 0.02, step)
            if step % 100 == 0:
                run.log_histogram("weights/first", numbers.normal(0, 0.05 + step / 8000, 5000), step, bins=80)
                run.log_histogram("weights/last", numbers.normal(step / 4000, 0.2, 5000), step, bins=80)
                run.log_image("samples", picture(step), step)
        run.summary["best accuracy"] = 0.98
        run.log_text("notes", "Best of five seeds.")
        run.log_artifact(b"x" * 200_000, "models/best.pt")
    return run


def picture(step: int) -> np.ndarray:
    """Rings that sharpen."""
    across, up = np.meshgrid(np.linspace(-3, 3, 160), np.linspace(-2, 2, 110))
    waves = 0.5 + 0.5 * np.cos(np.hypot(across, up) * (2 + step / 300))
    return np.stack([waves * 0.2, waves * 0.8, waves * 0.7 + 0.2])


if __name__ == "__main__":
    main()
