"""Draws `gallery-*.png`: the run of `page.py` in MLflow's and Aim's own pages, in a headless Chromium.

python docs/pictures/gallery.py

Both vendors' servers run on this machine's own address, and are ended by their process ids.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import aim
import page
from page import browser  # the tests', which it knows the way to
from PIL import Image

HERE = Path(__file__).parent
HOST = "127.0.0.1"
PATIENCE = 120.0
DRAWN = 12.0
"""Seconds until a vendor's page has asked for everything and drawn it; none of them says when."""

TIDY = """for (const told of ["Model training", "Skip"])
    [...document.querySelectorAll("label, button, span")].find(one => one.textContent === told)?.click();
[...document.querySelectorAll("button")].find(one => /close/i.test(one.ariaLabel ?? ""))?.click()"""
"""Shuts what both vendors open beside a run at the first visit."""


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.chdir(folder)
        os.environ |= {"HOME": place, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        store = ("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files")
        with served("mlflow", "server", *store, "--workers", "1") as server:
            os.environ["MLFLOW_TRACKING_URI"] = server
            url = page.train("mlflow").url
            shoot(folder, {"gallery-mlflow-overview": str(url), "gallery-mlflow-model-metrics": f"{url}/model-metrics"})
        page.train("aim")
        (identity,) = aim.Repo(place).list_all_runs()
        with served("aim", "up", "--repo", place) as server:
            tabs = ("overview", "metrics", "images", "distributions")
            shoot(folder, {f"gallery-aim-{name}": f"{server}/runs/{identity}/{name}" for name in tabs})


@contextlib.contextmanager
def served(*command: str) -> Iterator[str]:
    """A vendor's server, by the address of its pages."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    program, *words = command
    words = [str(Path(sys.executable).with_name(program)), *words, "--host", HOST, "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        await_answer(process, f"http://{HOST}:{port}")
        yield f"http://{HOST}:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def await_answer(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    raise RuntimeError(f"no answer from {' '.join(process.args)}")


def shoot(folder: Path, pages: Mapping[str, str]) -> None:
    browser.OPTIONS = (
        *(option for option in browser.OPTIONS if not option.startswith(("--host-resolver", "--proxy"))),
        f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HOST}",
    )
    with browser.Browser(browser.installed() or "chromium", folder / f"profile {min(pages)}") as program:
        for name, url in pages.items():
            tab = program.open(Path(os.devnull), width=1150, height=1600 if "model-metrics" in name else 800)
            tab.call("Page.navigate", url=url)
            time.sleep(DRAWN)
            tab.evaluate(TIDY)
            time.sleep(1)
            tab.call("Page.navigate", url="about:blank")
            tab.call("Page.navigate", url=url)
            time.sleep(DRAWN)
            tab.screenshot(folder / "shot.png")
            with Image.open(folder / "shot.png") as shot:
                shot.convert("RGB").quantize(128).save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
