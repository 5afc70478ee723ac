"""A stand-in for a W&B server, on loopback: no real one can run in a test.

It speaks as much of the wire protocol as the real SDK uses here: GraphQL for runs, files and artifacts, the file stream
for rows, console and summary, and addresses to upload to. Lines of a stream are kept at the offset they are sent for.
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

from tracelet.testing import Stored

HISTORY, SUMMARY, EVENTS, OUTPUT = "wandb-history.jsonl", "wandb-summary.json", "wandb-events.jsonl", "output.log"
ENTITY = "team"


@dataclass
class Answer:
    """What goes back over the wire."""

    code: int = 200
    data: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Fault = Callable[[str], Answer | None]


@dataclass
class KeptRun:
    """What the server was told of one run."""

    id: str
    project: str
    streams: dict[str, dict[int, str]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    words: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)
    alerts: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The history, in the order of its lines; a gap in them is an error."""
        lines = self.streams.get(HISTORY, {})
        assert list(range(len(lines))) == sorted(lines), f"lines are missing: {sorted(lines)}"
        return [_value(lines[number]) for number in sorted(lines)]

    @property
    def summary(self) -> dict[str, Any]:
        lines = self.streams.get(SUMMARY, {})
        return dict(json.loads(lines[max(lines)])) if lines else {}

    def series(self, key: str) -> list[tuple[Any, Any, Any]]:
        """Every point of one metric: axis, value, wall time."""
        return [(row.get("global_step"), row[key], row["_timestamp"]) for row in self.rows if key in row]

    def values(self, key: str) -> list[Any]:
        return [row[key] for row in self.rows if key in row]


@dataclass
class KeptArtifact:
    """One version of an artifact, and where the bytes of its entries are."""

    id: str
    given: dict[str, Any]
    state: str = "PENDING"
    manifest: str = ""

    @property
    def name(self) -> str:
        return str(self.given["artifactCollectionName"])

    @property
    def type(self) -> str:
        return str(self.given["artifactTypeName"])

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(json.loads(self.given.get("metadata") or "{}"))


class WandbServer:
    """API and storage in one; what it was given is in `runs`, `artifacts`, `stored` and `calls`."""

    key = "k" * 40

    def __init__(self) -> None:
        self.runs: dict[str, KeptRun] = {}
        self.artifacts: dict[str, KeptArtifact] = {}
        self.stored: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self.port = 0
        self._http: Listener | None = None
        self._released = threading.Event()
        self._lock = threading.RLock()

    # Its life.

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> WandbServer:
        """Listen, after a `stop` on the same port."""
        self._released.clear()
        handler = type("Handler", (_Handler,), {"server_state": self})
        self._http = Listener(("127.0.0.1", self.port), handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Refuse connections from now on, and end those that are open."""
        self._released.set()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http.hang_up()
            self._http = None

    def environment(self) -> dict[str, str]:
        """How a program is told of it."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": self.key, "WANDB_MODE": "online"}

    @contextlib.contextmanager
    def fault(self, how: Fault) -> Iterator[None]:
        """While it lasts, `how(name of the call)` answers, unless it gives None."""
        self.faults.append(how)
        try:
            yield
        finally:
            self.faults.remove(how)
            self._released.set()
            self._released = threading.Event()

    def hang(self, call: str) -> Answer | None:
        """A fault: accept, and never answer."""
        self._released.wait(120)
        return Answer(503)

    def slow(self, call: str) -> Answer | None:
        """A fault: 200 ms a call."""
        self._released.wait(0.2)
        return None

    # What it was told.

    def the_run(self) -> KeptRun:
        (run,) = self.runs.values()
        return run

    def media(self, run: KeptRun, key: str) -> list[bytes]:
        """The bytes of every file that was logged under one key."""
        return [self.stored[run.files[value["path"]]] for value in run.values(key)]

    def committed(self) -> list[KeptArtifact]:
        return [one for one in self.artifacts.values() if one.state == "COMMITTED"]

    def entries(self, artifact: KeptArtifact) -> dict[str, bytes]:
        """Path inside the artifact to its bytes."""
        contents = json.loads(self.stored[artifact.manifest])["contents"]
        return {path: self.stored[f"{artifact.id}/{path}"] for path in contents}

    # What it answers.

    def answer(self, call: str) -> Answer | None:
        """What a fault says in place of the true answer."""
        self.calls[call] += 1
        for fault in list(self.faults):
            told = fault(call)
            if told is not None:
                return told
        return None

    def graphql(self, name: str, given: dict[str, Any]) -> Answer:
        handler = getattr(self, f"_{name}", None)
        if handler is None:
            return Answer(200, {"errors": [{"message": f"unknown operation {name}"}]})
        with self._lock:
            return Answer(200, {"data": handler(given)})

    def stream(self, run_id: str, project: str, told: dict[str, Any]) -> Answer:
        """Keep lines where they belong."""
        with self._lock:
            run = self._run(run_id, project)
            for name, part in (told.get("files") or {}).items():
                kept = run.streams.setdefault(name, {})
                kept.update(enumerate(part["content"], part["offset"]))
            if told.get("complete"):
                run.exit_codes.append(told.get("exitcode", 0))
        return Answer(200, {})

    def _run(self, run_id: str, project: str) -> KeptRun:
        return self.runs.setdefault(run_id, KeptRun(run_id, project))

    def _Viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        flags = json.dumps({"code_saving_enabled": False})
        viewer = {"id": "u", "entity": ENTITY, "username": "me", "email": "me@localhost", "flags": flags}
        return {"viewer": viewer | {"teams": {"edges": []}}}

    def _ServerFeaturesQuery(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _OrgFeatureFlags(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"organization": {"featureFlags": []}}

    def _RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(given["name"])
        model = {"id": "p", "name": given.get("project") or "uncategorized", "entity": {"id": "e", "name": ENTITY}}
        return {"model": model | {"bucket": None if run is None else self._bucket(run)}}

    def _bucket(self, run: KeptRun) -> dict[str, Any]:
        def tail(name: str) -> str:
            lines = run.streams.get(name, {})
            return json.dumps([lines[max(lines)]] if lines else [])

        counts = {name: max(lines) + 1 for name, lines in run.streams.items() if lines}
        return {
            "id": run.id,
            "name": run.id,
            "summaryMetrics": json.dumps(run.summary),
            "displayName": run.words.get("displayName") or run.id,
            "description": None,
            "logLineCount": counts.get(OUTPUT, 0),
            "historyLineCount": counts.get(HISTORY, 0),
            "eventsLineCount": counts.get(EVENTS, 0),
            "historyTail": tail(HISTORY),
            "eventsTail": tail(EVENTS),
            "config": json.dumps(run.config),
            "tags": run.words.get("tags") or [],
            "notes": run.words.get("notes"),
            "wandbConfig": json.dumps({"t": {}}),
            "sweepName": None,
            "project": {"id": "p", "name": run.project, "entity": {"id": "e", "name": ENTITY}},
        }

    def _UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:
        inserted = given["name"] not in self.runs
        run = self._run(given["name"], given.get("project") or "uncategorized")
        run.config.update(json.loads(given.get("config") or "{}"))
        run.words.update({name: value for name, value in given.items() if value is not None and name != "config"})
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": inserted}}

    def _NotifyScriptableRunAlert(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self._run(given["runName"], given["projectName"])
        run.alerts.append((given["title"], given["text"], given["severity"]))
        return {"notifyScriptableRunAlert": {"success": True}}

    def _CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self._run(given["run"], given["project"])
        files = []
        for name in given["files"]:
            place = run.files.setdefault(name, f"run/{run.id}/{name}")
            files.append({"name": name, "uploadUrl": self._address(place)})
        return {"createRunFiles": {"runID": run.id, "uploadHeaders": [], "files": files}}

    def _address(self, place: str) -> str:
        return f"{self.url}/storage/{urllib.parse.quote(place)}"

    def _CreateArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        told = given["input"]
        same = [one for one in self.committed() if (one.name, one.given["digest"]) == _collection(told)]
        kept = same[0] if same else KeptArtifact(uuid.uuid4().hex, told)
        self.artifacts[kept.id] = kept
        artifact = {"id": kept.id, "state": kept.state, "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _FetchArtifactDigestAlgorithm(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": None}

    def _XXHashDigestsEnabled(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"xxhashDigestsEnabled": False}}

    def _CreateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[given["artifactID"]]
        artifact.manifest = f"{artifact.id}-manifest/{given['name']}"
        return {"createArtifactManifest": {"artifactManifest": self._manifest(artifact)}}

    def _UpdateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[given["artifactManifestID"]]
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(artifact)}}

    def _manifest(self, artifact: KeptArtifact) -> dict[str, Any]:
        file = {"id": artifact.manifest, "uploadUrl": self._address(artifact.manifest), "uploadHeaders": []}
        return {"id": artifact.id, "file": file}

    def _CreateArtifactFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for told in given["input"]["artifactFiles"]:
            place = f"{told['artifactID']}/{told['name']}"
            node = {"storagePath": place, "uploadUrl": self._address(place), "uploadHeaders": []}
            edges.append({"node": node | {"uploadMultipartUrls": None, "artifact": {"id": told["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[given["artifactID"]]
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.given["digest"]}}}


def told(server: WandbServer, run_id: str | None = None) -> Stored:
    """All that the server has, in neutral words; of one run, without artifacts, where `run_id` is given."""
    found = Stored(scalars=[], params={}, texts=[], images={}, histograms=[], artifacts={}, counts=Counter())
    found.summary, found.tags, found.alerts = {}, [], []
    levels = {"INFO": "info", "WARN": "warning", "ERROR": "error"}
    kinds = {"image-file": "image", "audio-file": "audio", "video-file": "video", "table-file": "table"}
    kinds |= {"html-file": "text", "histogram": "histogram"}
    for run in server.runs.values() if run_id is None else [server.runs[run_id]]:
        tags = run.config.get("tracelet_names", {}).get("value", {})
        for row in run.rows:
            step, wall_time = row["global_step"], row["_timestamp"]
            for key in row.keys() - {"global_step", "_timestamp", "_step", "_runtime"}:
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
                    shown = data.decode().partition(">\n")[2].removesuffix("</pre>")
                    found.texts.append((tag, step, html.unescape(shown)))
        for name, place in run.files.items():
            if name.startswith("tracelet/histograms"):
                for line in server.stored[place].decode().splitlines():
                    kept = json.loads(line)
                    found.histograms.append((kept["tag"], kept["step"], tuple(kept["limits"]), tuple(kept["counts"])))
        own = {key: told["value"] for key, told in run.config.items() if key not in ("_wandb", "tracelet_names")}
        found.params.update(own)
        shown = {tags.get(key, key): value for key, value in run.summary.items() if not key.startswith("_")}
        found.summary.update(shown)
        found.tags += run.words.get("tags") or []
        found.alerts += [(title, text, levels[severity]) for title, text, severity in run.alerts]
    for artifact in server.committed() if run_id is None else ():
        if artifact.type != "run_table":
            given = "tag" not in artifact.metadata
            found.counts["artifact" if given else artifact.type] += 1
            if given:
                found.artifacts.update(server.entries(artifact))
    return found


def _collection(given: dict[str, Any]) -> tuple[Any, Any]:
    return given["artifactCollectionName"], given["digest"]


def _value(text: str) -> Any:
    # wandb writes -0.0 as "-0", which json.loads reads as the integer 0.
    return json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))


class _Handler(Handler):
    server_state: WandbServer

    def do_POST(self) -> None:
        path, state, body = urllib.parse.urlsplit(self.path).path, self.server_state, self.body()
        if not self._signed_in():
            self._tell(Answer(401, {"error": "user is not logged in"}))
            return
        streamed = re.fullmatch(r"/files/[^/]+/([^/]+)/([^/]+)/file_stream", path)
        told = json.loads(body) if body else {}
        if streamed:
            project, run_id = map(urllib.parse.unquote, streamed.groups())
            self._tell(state.answer("file_stream") or state.stream(run_id, project, told))
        elif path == "/graphql":
            name = told.get("operationName") or "".join(re.findall(r"(?:query|mutation)\s+(\w+)", told["query"])[:1])
            self._tell(state.answer(name) or state.graphql(name, told.get("variables") or {}))
        else:
            self._tell(state.answer(path) or Answer(404, {"error": "not found"}))

    def do_PUT(self) -> None:
        path, body = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path), self.body()
        told = self.server_state.answer("upload")
        if told is None:
            self.server_state.stored[path.removeprefix("/storage/")] = body
        self._tell(told or Answer())

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        told = self.server_state.answer(path)
        known = self.server_state.stored.get(path.removeprefix("/storage/"))
        self._tell(told or Answer(200 if path == "/healthz" or known is not None else 404, known))

    def _signed_in(self) -> bool:
        sent = self.headers.get("Authorization", "").removeprefix("Basic ")
        return base64.b64decode(sent).decode().rpartition(":")[2] == self.server_state.key

    def _tell(self, answer: Answer) -> None:
        payload = answer.data if isinstance(answer.data, bytes) else json.dumps(answer.data or {}).encode()
        with contextlib.suppress(ConnectionError):  # who asked may have given up
            self.send_response(answer.code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        return
