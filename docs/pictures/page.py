"""Draws `page*.png` and `comparison.png`: pages of runs that small programs logged, in a headless Chromium.

python docs/pictures/page.py
"""

import math
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from runs import browser  # noqa: E402

import tracelet  # noqa: E402
from tracelet.runs import comparison, page, report  # noqa: E402
from tracelet.runs.media import Gallery  # noqa: E402


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.chdir(folder)
        gallery = Gallery()
        page.write_run(report.read(train("csv").folder, see=gallery.add), gallery, folder / "page.html")
        page.write_comparison(comparison.compare([run.folder for run in sweep(60)]), folder / "comparison.html")
        with browser.Browser(browser.installed() or "chromium", folder / "profile") as program:
            tab = opened(program, folder / "page.html", "curves", 0.8, width=1160, height=820)
            tab.move((300, 250))
            save(tab, "page")
            tab = opened(program, folder / "page.html", "pictures", 0.8, width=1160, height=820, dark=True)
            save(tab, "page-dark")
            save(opened(program, folder / "page.html", "curves", 0.8, width=390, height=820), "page-phone")
            tab = opened(program, folder / "comparison.html", "runs", 0.0, width=1160, height=1180)
            tab.evaluate("document.querySelector('#runs .scroll').style.maxHeight = '19rem'")
            save(tab, "comparison")


def opened(program: browser.Browser, path: Path, section: str, smoothing: float, **look: object) -> browser.Page:
    tab = program.open(path, **look)
    tab.put("#smoothing", smoothing)
    tab.evaluate("document.querySelectorAll('#curves details').forEach(details => { details.open = true; })")
    tab.evaluate(f"document.getElementById('{section}').scrollIntoView()")
    tab.settle()
    tab.settle()
    return tab


def save(tab: browser.Page, name: str) -> None:
    shot = Path(f"{name}.png")
    tab.settle()
    tab.screenshot(shot)
    with Image.open(shot) as picture:
        picture.convert("RGB").quantize(128).save(HERE / shot, optimize=True)
    tab.close()


def train(backend: str) -> tracelet.Experiment:
    """A run that looks like one, ended."""
    rng, numbers = random.Random(0), np.random.default_rng(0)
    start = time.time() - 7200
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
            now = start + 3.6 * step
            noise = rng.expovariate(1) * 0.25 * math.exp(-step / 900)
            run.log_metric("train/loss", 2.3 * math.exp(-step / 500) + 0.06 + noise, step, wall_time=now)
            run.log_metric("optimizer/lr", 3e-3 * (1 + math.cos(math.pi * step / 2000)) / 2, step, wall_time=now)
            norm = 0.4 + rng.random() + 2 * math.exp(-step / 300)
            run.log_metric("optimizer/gradient", norm, step, wall_time=now)
            if step % 50 == 49:
                loss = 2.3 * math.exp(-step / 500) + 0.14 + rng.random() * 0.03
                run.log_metric("val/loss", loss, step, wall_time=now)
                accuracy = 1 - 0.9 * math.exp(-step / 400) - rng.random() * 0.02
                run.log_metric("val/accuracy", accuracy, step, wall_time=now)
            if step % 100 == 0:
                run.log_histogram("weights/first", numbers.normal(0, 0.05 + step / 8000, 5000), step, bins=80)
                run.log_histogram("weights/last", numbers.normal(step / 4000, 0.2, 5000), step, bins=80)
                run.log_image("samples", picture(step), step)
                run.log_image("masks", picture(step)[::-1], step)
                run.log_metric("system/memory_bytes", 4.1e9 + 2e8 * math.sin(step / 300), step, wall_time=now)
                run.log_metric("system/cpu_percent", 70 + 20 * rng.random(), step, wall_time=now)
        run.summary["best accuracy"] = 0.98
        run.log_text("notes", "## Best of five seeds\n\n| seed | accuracy |\n|---|---|\n| 3 | **0.98** |\n| 1 | 0.97 |")
        run.log_artifact(b"x" * 200_000, "models/best.pt")
    return run


def sweep(count: int) -> list[tracelet.Experiment]:
    """A search for the best learning rate."""
    rng, runs = random.Random(0), []
    for number in range(count):
        with tracelet.start_logging(f"sweep-{number:02}", project="sweep", backend="csv", collect=False) as run:
            rate, dropout = 10 ** rng.uniform(-4, -1), round(rng.random() / 2, 2)
            optimizer, width = rng.choice(["adam", "sgd", "lion"]), rng.choice([64, 128, 256])
            run.log_params({"lr": rate, "width": width, "optimizer": optimizer, "dropout": dropout, "epochs": 20})
            floor = 0.1 + abs(math.log10(rate) + 2.2) * 0.2 + dropout * 0.2 + (optimizer == "sgd") * 0.1
            for step in range(400):
                decay = math.exp(-step / 80)
                run.log_metric("loss", floor + 2 * decay + rng.random() * 0.05, step)
                run.log_metric("val/loss", floor * 1.2 + 2 * decay + rng.random() * 0.05, step)
                run.log_metric("val/accuracy", 1 - floor / 2 - decay / 2 + rng.random() * 0.01, step)
            run.summary["best accuracy"] = 1 - floor / 2
        runs.append(run)
    return runs


def picture(step: int) -> np.ndarray:
    """Rings that sharpen."""
    across, up = np.meshgrid(np.linspace(-3, 3, 160), np.linspace(-2, 2, 110))
    waves = 0.5 + 0.5 * np.cos(np.hypot(across, up) * (2 + step / 300))
    return np.stack([waves * 0.2, waves * 0.8, waves * 0.7 + 0.2])


if __name__ == "__main__":
    main()
