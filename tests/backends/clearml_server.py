"""Replace a ClearML server on loopback: a real one cannot run in a test.

It implements the part of the protocol that the real SDK uses here: signing in, projects, tasks, events and files. Like
the real server it rejects NaN and infinity, which its JSON does not allow, and steps beyond 64 bits.
"""

from __future__ import annotations

import base64
import contextlib
import email.parser
import email.policy
import json
import threading
import time
import urllib.parse
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from backends.http_stand_in import Handler, Listener

Answer = tuple[int, dict[str, Any]]


class Rejected(Exception):
    """The server rejects the request."""


class ClearmlServer:
    """Serve API, web pages and files. The received data is in `tasks`, `events`, `files` and `calls`."""

    key, secret = "ACCESS", "SECRET"

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.projects: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()
        self.faults: list[Callable[[str], Answer | None]] = []
        self.refuse: Callable[[dict[str, Any]], bool] = lambda event: False
        self.drips = False
        """Send a byte of each answer every 0.2 s."""
        self.port = 0
        self._http: Listener | None = None
        self._released = threading.Event()

    # Start and stop.

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> ClearmlServer:
        """Listen; after a `stop`, on the same port."""
        self._released.clear()
        handler = type("Handler", (_Handler,), {"server_state": self})
        self._http = Listener(("127.0.0.1", self.port), handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        self._released.set()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http.hang_up()
            self._http = None

    def environment(self) -> dict[str, str]:
        """Return the variables with which a program uses this server."""
        hosts = dict.fromkeys(("CLEARML_API_HOST", "CLEARML_WEB_HOST", "CLEARML_FILES_HOST"), self.url)
        return hosts | {"CLEARML_API_ACCESS_KEY": self.key, "CLEARML_API_SECRET_KEY": self.secret}

    @contextlib.contextmanager
    def fault(self, fault: Callable[[str], Answer | None]) -> Iterator[None]:
        """Answer with `fault(service.action)` until the block ends, unless it returns None."""
        self.faults.append(fault)
        try:
            yield
        finally:
            self.faults.remove(fault)

    def hang(self, action: str) -> Answer | None:
        """Accept the call, and never answer. A fault."""
        self._released.wait(60)
        return None

    # Received data.

    def the_task(self) -> dict[str, Any]:
        """Return the only task."""
        (task,) = self.tasks.values()
        return task

    def load(self, url: str) -> bytes:
        """Return the file at the address of an event or an artifact."""
        return self.files[urllib.parse.unquote(url.removeprefix(self.url).lstrip("/"))]

    # Answers.

    def answer(self, action: str, body: Any) -> Answer:
        self.calls[action] += 1
        for fault in list(self.faults):
            answer = fault(action)
            if answer is not None:
                return answer
        name = "_" + action.replace(".", "_")
        try:
            return 200, getattr(self, name, self._nothing)(body) or {}
        except Rejected as error:
            return 400, {"error": str(error)}

    def _nothing(self, body: Any) -> None:
        return None

    def _auth_login(self, body: Any) -> dict[str, Any]:
        claims = {"exp": int(time.time()) + 86400, "api_version": "2.23", "server_version": "1.14.0", "env": "x"}
        parts = [{"alg": "HS256", "typ": "JWT"}, claims]
        encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        return {"token": ".".join([*encoded, "c2ln"])}

    def _projects_get_all(self, body: Any) -> dict[str, Any]:
        found = [
            {"id": key, "name": name}
            for key, name in self.projects.items()
            if f"^{name}$" == (body.get("name") or "").replace("\\", "")
        ]
        return {"projects": found}

    def _projects_create(self, body: Any) -> dict[str, Any]:
        key = uuid.uuid4().hex
        self.projects[key] = _name(body)
        return {"id": key}

    def _projects_get_by_id(self, body: Any) -> dict[str, Any]:
        return {"project": {"id": body["project"], "name": self.projects[body["project"]]}}

    def _tasks_create(self, body: Any) -> dict[str, Any]:
        key = uuid.uuid4().hex
        _name(body)
        self.tasks[key] = (
            {"execution": {"artifacts": []}} | body | {"id": key, "status": "created", "last_iteration": 0}
        )
        return {"id": key}

    def _tasks_get_by_id(self, body: Any) -> dict[str, Any]:
        if body["task"] not in self.tasks:
            raise Rejected(f"Invalid task id: id={body['task']}")
        return {"task": self.tasks[body["task"]]}

    def _tasks_get_all(self, body: Any) -> dict[str, Any]:
        return {"tasks": [self.tasks[key] for key in body.get("id") or [] if key in self.tasks]}

    def _tasks_edit(self, body: Any) -> dict[str, Any]:
        key = body.pop("task")
        body.pop("force", None)
        self.tasks[key].update(body)
        return {"updated": 1, "fields": body}

    _tasks_update = _tasks_edit

    def _tasks_add_or_update_artifacts(self, body: Any) -> dict[str, Any]:
        artifacts = self.tasks[body["task"]]["execution"]["artifacts"]
        new = {artifact["key"] for artifact in body["artifacts"]}
        artifacts[:] = [artifact for artifact in artifacts if artifact["key"] not in new] + body["artifacts"]
        return {"updated": 1}

    def _tasks_set_requirements(self, body: Any) -> dict[str, Any]:
        self.tasks[body["task"]].setdefault("script", {})["requirements"] = body["requirements"]
        return {"updated": 1}

    def _status(self, body: Any, status: str) -> dict[str, Any]:
        self.tasks[body["task"]].update(status=status, status_reason=body.get("status_reason"))
        return {"updated": 1}

    def _tasks_started(self, body: Any) -> dict[str, Any]:
        return self._status(body, "in_progress")

    def _tasks_stopped(self, body: Any) -> dict[str, Any]:
        return self._status(body, "stopped")

    def _tasks_completed(self, body: Any) -> dict[str, Any]:
        return self._status(body, "completed")

    def _tasks_failed(self, body: Any) -> dict[str, Any]:
        return self._status(body, "failed")

    def _events_add_batch(self, body: Any) -> dict[str, Any]:
        valid = [event for event in body if event["task"] in self.tasks and not self.refuse(event)]
        if any(not -(2**63) <= event.get("iter", 0) < 2**63 for event in body):
            raise Rejected("Iteration number should not exceed 9223372036854775807")
        self.events += valid
        if not valid:
            raise Rejected("Events not added")
        return {"added": len(valid), "errors": len(body) - len(valid)}


def _name(body: Any) -> str:
    if len(body["name"].strip()) < 3:
        raise Rejected("Validation error: name is shorter than 3 letters")
    return str(body["name"])


class _Handler(Handler):
    server_state: ClearmlServer

    def do_GET(self) -> None:
        path = urllib.parse.urlsplit(self.path).path.strip("/")
        body = self.body()
        action = path.rpartition("/")[2]
        if action.count(".") != 1 or not action.replace(".", "").replace("_", "").isalpha():
            self._file(path)
            return
        try:
            parsed = _parsed(body, self.headers.get("Content-Type", ""))
            code, data = self.server_state.answer(action, parsed)
        except ValueError as error:
            code, data = 400, {"error": f"Invalid JSON: {error}"}
        self._send(code, action, data)

    do_PUT = do_GET  # noqa: N815

    def do_POST(self) -> None:
        if "multipart" not in self.headers.get("Content-Type", ""):
            self.do_GET()
            return
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + self.body())
        code, _ = self.server_state.answer("files.upload", None)
        for part in message.iter_parts():
            if code == 200:
                self.server_state.files[str(part.get_filename()).strip("/")] = bytes(part.get_payload(decode=True))
        self._send(code, "upload", {})

    def _file(self, path: str) -> None:
        data = self.server_state.files.get(urllib.parse.unquote(path))
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def _send(self, code: int, action: str, data: dict[str, Any]) -> None:
        endpoint = {"name": action, "requested_version": "2.23", "actual_version": "1.0"}
        meta = {"id": "x", "trx": "x", "endpoint": endpoint, "result_code": code, "result_subcode": 0}
        meta["result_msg"] = "OK" if code == 200 else str(data.pop("error", "failed"))
        payload = json.dumps({"meta": meta, "data": data}).encode()
        with contextlib.suppress(ConnectionError):  # the client may have given up
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            if not self.server_state.drips:
                self.wfile.write(payload)
                return
            for byte in payload:
                self.wfile.write(bytes([byte]))
                self.server_state._released.wait(0.2)

    def log_message(self, *_: Any) -> None:
        return


def _parsed(body: bytes, content_type: str) -> Any:
    def refuse(literal: str) -> None:
        raise ValueError(f"{literal} is not a number")

    text = body.decode()
    if "json-lines" in content_type:
        return [json.loads(line, parse_constant=refuse) for line in text.splitlines() if line]
    return json.loads(text, parse_constant=refuse) if text else {}
