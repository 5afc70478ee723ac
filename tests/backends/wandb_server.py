"""Replace a W&B server on loopback: a real one cannot run in a test.

It implements the part of the protocol that the real SDK uses here: GraphQL for runs, files and artifacts, the file
stream for rows, console and summary, and upload addresses. Lines of a stream are stored at the offset in the request.
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
import threading
import urllib.parse
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from backends.http_stand_in import Handler, Listener
from backends.store_content import StoreContent
from backends.wandb_store import MARK

HISTORY, SUMMARY, EVENTS, OUTPUT = "wandb-history.jsonl", "wandb-summary.json", "wandb-events.jsonl", "output.log"
ENTITY = "team"


@dataclass
class Answer:
    """Hold a response."""

    code: int = 200
    data: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Fault = Callable[[str], Answer | None]


@dataclass
class ServerRun:
    """Hold the data of one run."""

    id: str
    project: str
    writers: dict[str, dict[str, dict[int, str]]] = field(default_factory=lambda: {"": {}})
    """The lines of each stream, by writer. Writers in wandb's shared mode have an id, and count their lines from 0."""
    config: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)
    alerts: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def streams(self) -> dict[str, dict[int, str]]:
        """The lines of each stream, of the writer without an id."""
        return self.writers[""]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return the history of each writer, in the order of its lines. They must have no gap."""
        rows = []
        for streams in self.writers.values():
            lines = streams.get(HISTORY, {})
            assert list(range(len(lines))) == sorted(lines), f"lines are missing: {sorted(lines)}"
            rows += [_value(lines[number]) for number in sorted(lines)]
        return rows

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for lines in (streams.get(SUMMARY, {}) for streams in self.writers.values()):
            found |= json.loads(lines[max(lines)]) if lines else {}
        return found

    def series(self, key: str) -> list[tuple[Any, Any, Any]]:
        """Return (axis, value, wall time) of every point of one metric."""
        return [(row.get("global_step"), row[key], row["_timestamp"]) for row in self.rows if key in row]

    def values(self, key: str) -> list[Any]:
        return [row[key] for row in self.rows if key in row]


@dataclass
class ServerArtifact:
    """Hold a version of an artifact, without the bytes of its entries."""

    id: str
    request: dict[str, Any]
    state: str = "PENDING"
    manifest: str = ""

    @property
    def name(self) -> str:
        return str(self.request["artifactCollectionName"])

    @property
    def type(self) -> str:
        return str(self.request["artifactTypeName"])

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(json.loads(self.request.get("metadata") or "{}"))


class WandbServer:
    """Serve API and storage. The received data is in `runs`, `artifacts`, `stored` and `calls`."""

    key = "k" * 40

    def __init__(self) -> None:
        self.runs: dict[str, ServerRun] = {}
        self.artifacts: dict[str, ServerArtifact] = {}
        self.stored: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self.port = 0
        self._http: Listener | None = None
        self._released = threading.Event()
        self._lock = threading.RLock()

    # Start and stop.

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> WandbServer:
        """Listen; after a `stop`, on the same port."""
        self._released.clear()
        handler = type("Handler", (_Handler,), {"server_state": self})
        self._http = Listener(("127.0.0.1", self.port), handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Refuse connections from now on, and close the open ones."""
        self._released.set()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http.hang_up()
            self._http = None

    def environment(self) -> dict[str, str]:
        """Return the variables with which a program uses this server."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": self.key, "WANDB_MODE": "online"}

    @contextlib.contextmanager
    def fault(self, fault: Fault) -> Iterator[None]:
        """Answer with `fault(name of the call)` until the block ends, unless it returns None."""
        self.faults.append(fault)
        try:
            yield
        finally:
            self.faults.remove(fault)
            self._released.set()
            self._released = threading.Event()

    def hang(self, call: str) -> Answer | None:
        """Accept the call, and never answer. A fault."""
        self._released.wait(120)
        return Answer(503)

    def slow(self, call: str) -> Answer | None:
        """Delay each call by 200 ms. A fault."""
        self._released.wait(0.2)
        return None

    # Received data.

    def the_run(self) -> ServerRun:
        """Return the only run."""
        (run,) = self.runs.values()
        return run

    def media(self, run: ServerRun, key: str) -> list[bytes]:
        """Return the bytes of every file that was logged under one key."""
        return [self.stored[run.files[value["path"]]] for value in run.values(key)]

    def committed(self) -> list[ServerArtifact]:
        return [artifact for artifact in self.artifacts.values() if artifact.state == "COMMITTED"]

    def entries(self, artifact: ServerArtifact) -> dict[str, bytes]:
        """Return the bytes of the artifact's files by path."""
        contents = json.loads(self.stored[artifact.manifest])["contents"]
        return {path: self.stored[f"{artifact.id}/{path}"] for path in contents}

    # Answers.

    def answer(self, call: str) -> Answer | None:
        """Return the answer of a fault; None if there is none."""
        self.calls[call] += 1
        for fault in list(self.faults):
            answer = fault(call)
            if answer is not None:
                return answer
        return None

    def graphql(self, name: str, variables: dict[str, Any]) -> Answer:
        handler = getattr(self, f"_{name}", None)
        if handler is None:
            return Answer(200, {"errors": [{"message": f"unknown operation {name}"}]})
        with self._lock:
            return Answer(200, {"data": handler(variables)})

    def stream(self, run_id: str, project: str, request: dict[str, Any], writer: str = "") -> Answer:
        """Store a writer's lines at their offsets."""
        with self._lock:
            run = self._run(run_id, project)
            streams = run.writers.setdefault(writer, {})
            for name, part in (request.get("files") or {}).items():
                lines = streams.setdefault(name, {})
                lines.update(enumerate(part["content"], part["offset"]))
            if request.get("complete"):
                run.exit_codes.append(request.get("exitcode", 0))
        return Answer(200, {})

    def _run(self, run_id: str, project: str) -> ServerRun:
        return self.runs.setdefault(run_id, ServerRun(run_id, project))

    def _Viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        flags = json.dumps({"code_saving_enabled": False})
        viewer = {"id": "u", "entity": ENTITY, "username": "me", "email": "me@localhost", "flags": flags}
        return {"viewer": viewer | {"teams": {"edges": []}}}

    def _ServerFeaturesQuery(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _OrgFeatureFlags(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"organization": {"featureFlags": []}}

    def _RunResumeStatus(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        model = {"id": "p", "name": variables.get("project") or "uncategorized", "entity": {"id": "e", "name": ENTITY}}
        return {"model": model | {"bucket": None if run is None else self._bucket(run)}}

    def _bucket(self, run: ServerRun) -> dict[str, Any]:
        def tail(name: str) -> str:
            lines = run.streams.get(name, {})
            return json.dumps([lines[max(lines)]] if lines else [])

        counts = {name: max(lines) + 1 for name, lines in run.streams.items() if lines}
        return {
            "id": run.id,
            "name": run.id,
            "summaryMetrics": json.dumps(run.summary),
            "displayName": run.attributes.get("displayName") or run.id,
            "description": None,
            "logLineCount": counts.get(OUTPUT, 0),
            "historyLineCount": counts.get(HISTORY, 0),
            "eventsLineCount": counts.get(EVENTS, 0),
            "historyTail": tail(HISTORY),
            "eventsTail": tail(EVENTS),
            "config": json.dumps(run.config),
            "tags": run.attributes.get("tags") or [],
            "notes": run.attributes.get("notes"),
            "wandbConfig": json.dumps({"t": {}}),
            "sweepName": None,
            "project": {"id": "p", "name": run.project, "entity": {"id": "e", "name": ENTITY}},
        }

    def _UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        inserted = variables["name"] not in self.runs
        run = self._run(variables["name"], variables.get("project") or "uncategorized")
        run.config.update(json.loads(variables.get("config") or "{}"))
        run.attributes.update(
            {name: value for name, value in variables.items() if value is not None and name != "config"}
        )
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": inserted}}

    def _NotifyScriptableRunAlert(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self._run(variables["runName"], variables["projectName"])
        run.alerts.append((variables["title"], variables["text"], variables["severity"]))
        return {"notifyScriptableRunAlert": {"success": True}}

    def _CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self._run(variables["run"], variables["project"])
        files = []
        for name in variables["files"]:
            path = run.files.setdefault(name, f"run/{run.id}/{name}")
            files.append({"name": name, "uploadUrl": self._address(path)})
        return {"createRunFiles": {"runID": run.id, "uploadHeaders": [], "files": files}}

    def _address(self, path: str) -> str:
        return f"{self.url}/storage/{urllib.parse.quote(path)}"

    def _CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        request = variables["input"]
        version = request["artifactCollectionName"], request["digest"]
        same = [artifact for artifact in self.committed() if (artifact.name, artifact.request["digest"]) == version]
        artifact = same[0] if same else ServerArtifact(uuid.uuid4().hex, request)
        self.artifacts[artifact.id] = artifact
        answer = {"id": artifact.id, "state": artifact.state, "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": answer}}

    def _FetchArtifactDigestAlgorithm(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"project": None}

    def _XXHashDigestsEnabled(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"xxhashDigestsEnabled": False}}

    def _CreateArtifactManifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[variables["artifactID"]]
        artifact.manifest = f"{artifact.id}-manifest/{variables['name']}"
        return {"createArtifactManifest": {"artifactManifest": self._manifest(artifact)}}

    def _UpdateArtifactManifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[variables["artifactManifestID"]]
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(artifact)}}

    def _manifest(self, artifact: ServerArtifact) -> dict[str, Any]:
        file = {"id": artifact.manifest, "uploadUrl": self._address(artifact.manifest), "uploadHeaders": []}
        return {"id": artifact.id, "file": file}

    def _CreateArtifactFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for file in variables["input"]["artifactFiles"]:
            path = f"{file['artifactID']}/{file['name']}"
            node = {"storagePath": path, "uploadUrl": self._address(path), "uploadHeaders": []}
            edges.append({"node": node | {"uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[variables["artifactID"]]
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.request["digest"]}}}


def content(server: WandbServer, run_id: str | None = None) -> StoreContent:
    """Return everything that the server has; if `run_id` is set, that run without artifacts."""
    found = StoreContent()
    levels = {"INFO": "info", "WARN": "warning", "ERROR": "error"}
    kinds = {"image-file": "image", "audio-file": "audio", "video-file": "video", "table-file": "table"}
    kinds |= {"html-file": "text", "histogram": "histogram"}
    for run in server.runs.values() if run_id is None else [server.runs[run_id]]:
        tags = run.config.get("tracelet_names", {}).get("value", {})
        for row in run.rows:
            step, wall_time = row.get("global_step", 0), row["_timestamp"]
            for key in row.keys() - {"global_step", "_timestamp", "_step", "_runtime", MARK}:
                value, tag = row[key], tags.get(key, key)
                if not isinstance(value, dict):
                    found.scalars.append((tag, step, float(value), wall_time))
                    continue
                if "_type" not in value:  # a dotted name of media: nested
                    ((_, value),) = value.items()
                kind = "pr_curve" if key.startswith("Custom Chart Tables/") else kinds[value["_type"]]
                found.counts[kind] += 1
                data = server.stored[run.files[value["path"]]] if "path" in value else b""
                if kind == "image":
                    found.images[tag, step] = data
                elif kind == "text":
                    page = data.decode().partition(">\n")[2].removesuffix("</pre>")
                    found.texts.append((tag, step, html.unescape(page)))
        for name, path in run.files.items():
            if name.startswith("tracelet/histograms"):
                for line in server.stored[path].decode().splitlines():
                    facts = json.loads(line)
                    buckets = tuple(facts["limits"]), tuple(facts["counts"])
                    found.histograms.append((facts["tag"], facts["step"], *buckets))
        params = {key: item["value"] for key, item in run.config.items() if key not in ("_wandb", "tracelet_names")}
        found.params.update(params)
        summary = {tags.get(key, key): value for key, value in run.summary.items() if not key.startswith("_")}
        found.summary.update(summary)
        found.tags += run.attributes.get("tags") or []
        found.alerts += [(title, text, levels[severity]) for title, text, severity in run.alerts]
    for artifact in server.committed() if run_id is None else ():
        if artifact.type != "run_table":
            is_own = "tag" not in artifact.metadata
            found.counts["artifact" if is_own else artifact.type] += 1
            if is_own:
                found.artifacts.update(server.entries(artifact))
    return found


def _value(text: str) -> Any:
    # wandb writes -0.0 as "-0", which json.loads reads as the integer 0.
    return json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))


class _Handler(Handler):
    server_state: WandbServer

    def do_POST(self) -> None:
        path, state, body = urllib.parse.urlsplit(self.path).path, self.server_state, self.body()
        if not self._signed_in():
            self._send(Answer(401, {"error": "user is not logged in"}))
            return
        streamed = re.fullmatch(r"/files/[^/]+/([^/]+)/([^/]+)/file_stream", path)
        request = json.loads(body) if body else {}
        if streamed:
            project, run_id = map(urllib.parse.unquote, streamed.groups())
            writer = self.headers.get("X-Wandb-Async-Client-Id", "")
            self._send(state.answer("file_stream") or state.stream(run_id, project, request, writer))
        elif path == "/graphql":
            name = request.get("operationName")
            name = name or "".join(re.findall(r"(?:query|mutation)\s+(\w+)", request["query"])[:1])
            self._send(state.answer(name) or state.graphql(name, request.get("variables") or {}))
        else:
            self._send(state.answer(path) or Answer(404, {"error": "not found"}))

    def do_PUT(self) -> None:
        path, body = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path), self.body()
        answer = self.server_state.answer("upload")
        if answer is None:
            self.server_state.stored[path.removeprefix("/storage/")] = body
        self._send(answer or Answer())

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        answer = self.server_state.answer(path)
        data = self.server_state.stored.get(path.removeprefix("/storage/"))
        self._send(answer or Answer(200 if path == "/healthz" or data is not None else 404, data))

    def _signed_in(self) -> bool:
        sent = self.headers.get("Authorization", "").removeprefix("Basic ")
        return base64.b64decode(sent).decode().rpartition(":")[2] == self.server_state.key

    def _send(self, answer: Answer) -> None:
        payload = answer.data if isinstance(answer.data, bytes) else json.dumps(answer.data or {}).encode()
        with contextlib.suppress(ConnectionError):  # the client may have given up
            self.send_response(answer.code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        return
