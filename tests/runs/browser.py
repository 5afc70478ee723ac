"""Control a headless Chromium over a pipe: without a port, and without a driver."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DEADLINE = 60.0
# They disable background activity, and every name and address beyond this machine.
OPTIONS = (
    "--headless",
    "--no-sandbox",  # a sandbox needs rights that a container lacks
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=http://127.0.0.1:9",
    "--remote-debugging-pipe",
)


def installed() -> str | None:
    """Return the browser's path; None if there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """A browser process with its own profile. It ends with the block."""

    def __init__(self, program: str, profile: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # Higher than 3 and 4, to which `connect` copies them in the browser.
        far_in, far_out = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 50) for end in (theirs_in, theirs_out))

        def connect() -> None:
            os.dup2(far_in, 3)
            os.dup2(far_out, 4)

        profile.mkdir(parents=True)
        folders = {name: str(profile) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TMPDIR")}
        self._process = subprocess.Popen(
            [program, *OPTIONS, f"--user-data-dir={profile / 'data'}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **folders},
            close_fds=False,  # Python's own descriptors are closed at exec anyway
            preexec_fn=connect,
            start_new_session=True,
        )
        for descriptor in (theirs_in, theirs_out, far_in, far_out):
            os.close(descriptor)
        self._buffer = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            os.close(self._in)
            os.close(self._out)

    def open(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """Load a page in a new tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Page.navigate", url=path.absolute().as_uri())
        self.wait(lambda event: event["method"] == "Page.loadEventFired" and event.get("sessionId") == session)
        return page

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol, and return its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda message: message.get("id") == number)
        assert "error" not in answer, (method, answer)
        return dict(answer["result"])

    def wait(self, matches: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first event that matches. Wait for it if there is none yet."""
        for event in self._events:
            if matches(event):
                return event
        return self._until(lambda message: "method" in message and matches(message))

    def events(self, session: str) -> list[dict[str, Any]]:
        return [event for event in self._events if event.get("sessionId") == session]

    def _until(self, matches: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + DEADLINE
        while True:
            message = self._receive(deadline)
            if "method" in message:
                self._events.append(message)
            if matches(message):
                return message

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            piece = os.read(self._in, 1 << 16)
            assert piece, f"the browser ended with {self._process.poll()}"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))


class Page:
    """A tab of a browser."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser, self._target, self._session = browser, target, session
        self._downloads = Path()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, converted by JSON."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def put(self, selector: str, value: object) -> None:
        """Set the value of a control, and send its `input` event."""
        state = f"{{ value: {json.dumps(value)} }}"
        self.evaluate(f"Object.assign(document.querySelector('{selector}'), {state}).dispatchEvent(new Event('input'))")

    def resize(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.settle()

    def settle(self) -> None:
        """Wait until the page is laid out and drawn."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")

    def key(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            code = {"windowsVirtualKeyCode": 27} if key == "Escape" else {}  # by which a browser closes a dialog
            self.call("Input.dispatchKeyEvent", type=kind, key=key, **text, **code)

    def drag(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        self._mouse("mouseMoved", begin, 0)
        self._mouse("mousePressed", begin, 1)
        self._mouse("mouseMoved", end, 1)
        self._mouse("mouseReleased", end, 0)

    def move(self, point: tuple[float, float]) -> None:
        self._mouse("mouseMoved", point, 0)

    def _mouse(self, kind: str, point: tuple[float, float], buttons: int) -> None:
        self.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=point[0],
            y=point[1],
            button="none" if kind == "mouseMoved" and not buttons else "left",
            buttons=buttons,
            clickCount=0 if kind == "mouseMoved" else 1,
        )

    def download_to(self, folder: Path) -> None:
        """Save downloads to a folder, by their names."""
        folder.mkdir()
        self._downloads = folder
        self._browser.call(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True
        )

    def downloads(self, count: int) -> list[Path]:
        """Wait until `count` downloads are complete, and return their files."""

        def files() -> list[Path]:
            return sorted(path for path in self._downloads.iterdir() if path.suffix != ".crdownload")

        self._browser.wait(lambda event: event["method"] == "Browser.downloadProgress" and len(files()) >= count)
        return files()

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[Any]:
        """Return messages of the console, exceptions, failed loads, and dialogs."""
        self.settle()
        kinds = (
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
            "Log.entryAdded",
            "Page.javascriptDialogOpening",
        )
        return [event["params"] for event in self._browser.events(self._session) if event["method"] in kinds]

    def requests(self) -> list[str]:
        """Return the requested addresses, without those of embedded data."""
        self.settle()
        events = self._browser.events(self._session)
        urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:")]

    def refused(self) -> set[str]:
        """Return the reasons of failed requests."""
        events = self._browser.events(self._session)
        failures = [event["params"] for event in events if event["method"] == "Network.loadingFailed"]
        return {failure.get("blockedReason") or failure["errorText"] for failure in failures}

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)
