"""MLflow over HTTP: a real server that is killed, and one behind a proxy that refuses, fails or is silent."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from backends import mlflow_store as store
from backends.mlflow_server import Proxy, Server, free_port, proxy, running, silent
from backends.test_mlflow import give, info, scalar, spooled, surroundings
from backends.writing import attempt
from support import BUSY

import tracelet
from tracelet.backends.mlflow import MlflowBackend, MlflowConfig
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.records import Artifact, Params, Text
from tracelet.testing import BackendContract, Stored
from tracelet.testing.samples import histogram

WALL = 1_700_000_000.25
LARGEST = 1.7976931348623157e308


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """MLflow's state, and its variables in the environment, are as before."""
    before = surroundings(), _variables()
    yield
    tracelet.stop_logging()
    assert before == (surroundings(), _variables())


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}


@pytest.fixture
def before(server: Server) -> Iterator[Proxy]:
    """A proxy before the server."""
    with proxy(server.url) as made:
        yield made


def configured(tmp_path: Path, url: str, **more: Any) -> MlflowBackend:
    return MlflowBackend(MlflowConfig(backend_url=url, experiment_name=tmp_path.name, **more))


def opened(tmp_path: Path, url: str, **more: Any) -> MlflowBackend:
    backend = configured(tmp_path, url, **more)
    backend.open(info(tmp_path))
    return backend


def held(server: Server, tmp_path: Path) -> store.StoredRun:
    """The one run of this test."""
    (run,) = [run for run in store.runs(server.database, server.artifacts) if run.experiment == tmp_path.name]
    return run


class TestMlflowServerContract(BackendContract):
    """The exam, over HTTP."""

    knows_its_store = True
    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, server: Server) -> None:
        self.server = server

    def make_backend(self, tmp_path: Path) -> MlflowBackend:
        return configured(tmp_path, self.server.url)

    def read_back(self, tmp_path: Path) -> Stored:
        return store.to_content(held(self.server, tmp_path))

    def shown_value(self, value: float) -> float:
        """The SQL stores clamp the infinities, and SQLite knows no -0.0; the truth is in an artifact."""
        return min(max(value, -LARGEST), LARGEST) + 0.0 if value == value else value


# -- servers that are not there


def test_a_dead_server_is_told_in_time(tmp_path: Path) -> None:
    """MLflow itself would ask a closed port for 245 seconds."""
    begun = time.monotonic()
    with pytest.raises(BackendUnavailable, match="does not answer"):
        opened(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - begun < 5 + BUSY


def test_a_silent_server_is_told_in_time(tmp_path: Path) -> None:
    """... and one that takes the connection and never answers for 1207."""
    begun = time.monotonic()
    with silent() as url, pytest.raises(BackendUnavailable, match="does not answer"):
        opened(tmp_path, url)
    assert time.monotonic() - begun < 6 + BUSY


def test_a_server_that_falls_silent(before: Proxy, server: Server, tmp_path: Path) -> None:
    """One request waits for `timeout` and no longer, `close` too; afterwards the same batch is there once."""
    backend = opened(tmp_path, before.url, timeout=1)
    before.refuse = lambda method, path, body: time.sleep(3) or None  # type: ignore[func-returns-value]
    begun = time.monotonic()
    for call in (lambda: give(backend, scalar("loss", 1, 1)), lambda: backend.close("finished", 0)):
        with pytest.raises(BackendUnavailable):
            call()
    assert time.monotonic() - begun < 5
    before.refuse = lambda method, path, body: None
    give(backend, scalar("loss", 1, 1))
    backend.close("finished", 0)

    assert [(1, 1, WALL)] == held(server, tmp_path).series("loss")


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_server_that_answers_a_byte_at_a_time(part: str, before: Proxy, server: Server, tmp_path: Path) -> None:
    """Each byte restarts MLflow's own timeout. A request ends after twice `timeout`; later the batch is there once."""
    backend = opened(tmp_path, before.url, timeout=1)
    before.drips = part
    before.refuse = lambda method, path, body: (200, b" " * 1000 + b"{}")
    begun = time.monotonic()
    for call in (lambda: give(backend, scalar("loss", 1, 1)), lambda: backend.close("finished", 0)):
        with pytest.raises(BackendUnavailable, match="not complete"):
            call()
    assert time.monotonic() - begun < 8
    before.drips, before.refuse = "", lambda method, path, body: None
    before.recovered.set()
    give(backend, scalar("loss", 1, 1))
    backend.close("finished", 0)

    assert [(1, 1, WALL)] == held(server, tmp_path).series("loss")


def test_an_abandoned_start_creates_no_second_run(before: Proxy, server: Server, tmp_path: Path) -> None:
    """An answer that arrives after its request was abandoned has no effect: the next attempt makes the only run."""
    backend = configured(tmp_path, before.url, timeout=1)
    fetched = before.refuse

    def drip_search(method: str, path: str, body: bytes) -> None:
        before.drips = "headers" if path.endswith("/runs/search") else ""

    before.refuse = drip_search
    with pytest.raises(BackendUnavailable, match="not complete"):
        backend.open(info(tmp_path))
    before.refuse, before.drips = fetched, ""
    backend.open(info(tmp_path))
    before.recovered.set()
    (abandoned,) = backend._access._abandoned
    assert abandoned.wait(10)
    give(backend, scalar("loss", 1, 1))
    backend.close("finished", 0)

    assert [(1, 1, WALL)] == held(server, tmp_path).series("loss")


def test_nobody_there_at_the_start(server: Server, tmp_path: Path) -> None:
    """The program goes on at once, the records wait, and come to the server when it is there."""
    begun = time.monotonic()
    config = {"backend_url": f"http://127.0.0.1:{free_port()}", "experiment_name": tmp_path.name}
    experiment = tracelet.start_logging("ours", None, "mlflow", config=config)
    experiment.log_metric("loss", 0.5, 1)
    experiment.stop(timeout=1)
    assert time.monotonic() - begun < 10
    assert 1 == experiment.stats().backends["mlflow"].pending
    config["backend_url"] = server.url
    tracelet.start_logging(backend="mlflow", config=config, run_id=experiment.run_id).stop()

    assert [(1, 0.5)] == [(step, value) for step, value, _ in held(server, tmp_path).series("loss")]


def test_killed_in_the_middle_and_started_again(server: Server, tmp_path: Path) -> None:
    """Nothing is lost, nothing is there twice, everything in order with the times of the calls."""
    config = {"backend_url": server.url, "experiment_name": tmp_path.name}
    experiment = tracelet.start_logging("ours", None, "mlflow", config=config, flush_timeout=60)
    walls = [WALL + step for step in range(2000)]
    for step in range(2000):
        if step == 500:
            assert experiment.flush(30)
        if step == 700:
            server.kill()
        if step == 1500:
            server.start()
        experiment.log_metric("loss", step * 0.1, step, walls[step])
    experiment.stop()
    run = held(server, tmp_path)

    assert [(step, step * 0.1, walls[step]) for step in range(2000)] == run.series("loss")
    assert "FINISHED" == run.status
    assert 0 == experiment.stats().backends["mlflow"].pending


# -- servers that answer badly


def test_a_server_that_fails_and_recovers(before: Proxy, server: Server, tmp_path: Path) -> None:
    """500 is an outage: no record is refused, and a retry changes nothing that came through."""
    backend = opened(tmp_path, before.url)
    records = [scalar("loss", at, at) for at in range(2000)]
    asked = []

    def second_fails(method: str, path: str, body: bytes) -> tuple[int, bytes] | None:
        asked.append(path)
        return (500, b"oops") if len(asked) == 2 else None

    before.refuse = second_fails
    result = attempt(backend, [*records, Text("t", "x", 1, WALL)], 2001)
    assert result is not None
    assert (1000, BackendUnavailable) == (result.count, type(result.error))
    give(backend, *records[1000:], Text("t", "x", 1, WALL))
    before.refuse = lambda method, path, body: (500, b"oops") if method == "PUT" else None
    with pytest.raises(BackendUnavailable):
        give(backend, Text("u", "x", 1, WALL), scalar("after", 1, 1))
    before.refuse = lambda method, path, body: None
    give(backend, Text("u", "x", 1, WALL), scalar("after", 1, 1))
    backend.close("finished", 0)
    run = held(server, tmp_path)

    assert [(at, at, WALL) for at in range(2000)] == run.series("loss")
    assert [(1, 1, WALL)] == run.series("after")
    assert ["t", "u"] == sorted(facts["tag"] for _, facts in run.facts("text"))


def test_a_server_that_takes_smaller_batches(before: Proxy, server: Server, tmp_path: Path) -> None:
    """Azure refuses more than 200 metrics: they go in halves, and the next batch has the right size at once."""
    sizes: list[int] = []

    def at_most_200(method: str, path: str, body: bytes) -> tuple[int, bytes] | None:
        if not path.endswith("log-batch"):
            return None
        sizes.append(len(json.loads(body).get("metrics", [])))
        told = {"error_code": "INVALID_PARAMETER_VALUE", "message": "A batch holds at most 200 metrics"}
        return (400, json.dumps(told).encode()) if sizes[-1] > 200 else None

    before.refuse = at_most_200
    backend = opened(tmp_path, before.url)
    give(backend, *[scalar("loss", at, at) for at in range(1000)])
    refused = sum(size > 200 for size in sizes)
    give(backend, *[scalar("loss", at, at) for at in range(1000, 2000)])
    backend.close("finished", 0)

    assert refused == sum(size > 200 for size in sizes)
    assert [(at, at, WALL) for at in range(2000)] == held(server, tmp_path).series("loss")


def test_one_record_that_the_server_refuses(before: Proxy, server: Server, tmp_path: Path) -> None:
    """It alone is rejected, by its place in the batch; its neighbours arrive, and the size of batches stays."""

    def no_bad(method: str, path: str, body: bytes) -> tuple[int, bytes] | None:
        told = json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": "I do not like it"}).encode()
        return (400, told) if b'"bad"' in body else None

    before.refuse = no_bad
    backend = opened(tmp_path, before.url)
    records = [scalar("bad" if at == 700 else "good", at, at) for at in range(1000)]
    result = attempt(backend, [*records, Text("t", "x", 1, WALL)], 1001)
    assert result is not None
    assert (700, RecordRejected) == (result.count, type(result.error))
    assert "I do not like it" in str(result.error)
    give(backend, *records[701:], Text("t", "x", 1, WALL))
    before.seen.clear()
    give(backend, *[scalar("more", at, at) for at in range(999)])  # and the number of the last record
    assert 1 == sum(path.endswith("log-batch") for _, path, *_ in before.seen)
    backend.close("finished", 0)
    run = held(server, tmp_path)

    assert [at for at in range(1000) if at != 700] == [step for step, *_ in run.series("good")]
    assert ["t"] == [facts["tag"] for _, facts in run.facts("text")]


def test_a_parameter_that_the_server_refuses_is_in_a_tag(before: Proxy, server: Server, tmp_path: Path) -> None:
    """A server may take 500 characters: a longer value is in the run tag, the exact one in the artifact."""

    def at_most_500(method: str, path: str, body: bytes) -> tuple[int, bytes] | None:
        if not path.endswith("log-batch"):
            return None
        long = any(len(param["value"]) > 500 for param in json.loads(body).get("params", []))
        return (400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "too long"}') if long else None

    before.refuse = at_most_500
    backend = opened(tmp_path, before.url)
    values = {f"p{at}": "x" * (at * 300) for at in range(5)}
    give(backend, Params(values, WALL))
    backend.close("finished", 0)
    run = held(server, tmp_path)

    assert {"p0": "", "p1": "x" * 300} == run.params
    assert [600, 900, 1200] == [len(run.tags[f"tracelet.param.p{at}"]) for at in (2, 3, 4)]
    assert values == run.exact_params


def test_a_batch_stays_below_a_megabyte(before: Proxy, tmp_path: Path) -> None:
    backend = opened(tmp_path, before.url)
    give(backend, *[scalar(f"{at:04d}{'日' * 200}", 1.0, 1) for at in range(1000)])
    give(backend, Params({f"p{at}": "é" * 5000 for at in range(100)}, WALL))
    backend.close("finished", 0)

    assert max(size for _, path, _, size in before.seen if path.endswith("log-batch")) < 1_000_000


def test_a_server_that_wants_to_be_signed_in_to(before: Proxy, tmp_path: Path) -> None:
    before.refuse = lambda method, path, body: (401, b"Who are you?") if "health" not in path else None
    with pytest.raises(BackendUnavailable, match="api_key"):
        opened(tmp_path, before.url)


# -- signing in


CREDENTIALS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"api_key": "hush-token"}, {"Authorization": "Bearer hush-token"}),
    ({"username": "me", "password": "hush"}, {"Authorization": "Basic bWU6aHVzaA=="}),
    ({"headers": {"X-API-Key": "hush-key"}}, {"X-API-Key": "hush-key"}),
]


@pytest.mark.parametrize(("given", "sent"), CREDENTIALS, ids=["token", "basic", "header"])
def test_credentials_go_to_our_server_alone(
    given: dict[str, Any], sent: dict[str, str], before: Proxy, server: Server, tmp_path: Path
) -> None:
    """With every request of ours and of the program's fluent calls; nothing else of the process carries them."""
    config = {"experiment_name": tmp_path.name, "backend_url": before.url, **given}
    with proxy(server.url) as foreign:
        experiment = tracelet.start_logging("ours", None, "mlflow", config=config)
        experiment.log_metric("loss", 0.5, 1)
        experiment.log_text("t", "x")
        mlflow.log_metric("own", 1.0)
        mlflow.MlflowClient(tracking_uri=foreign.url).search_experiments()
        experiment.stop()
        strangers = [headers for _, _, headers, _ in foreign.seen]
    ours = [headers for _, path, headers, _ in before.seen if not path.endswith("/health")]

    assert len(ours) > 5
    assert [sent] * len(ours) == [{name: headers.get(name) for name in sent} for headers in ours]
    assert strangers
    assert not [headers for headers in strangers if sent.keys() & headers.keys()]
    told = f"{held(server, tmp_path)!r}{experiment!r}{experiment.stats()!r}{experiment.url}"
    told += "".join(path.read_bytes().decode("latin-1") for path in experiment.folder.rglob("*") if path.is_file())
    assert "hush" not in told


def test_a_users_own_provider_and_variables_still_count(
    before: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLFLOW_TRACKING_TOKEN, a user in the address, and MLFLOW_TRACKING_AUTH mean what they mean without us."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "from-environment")
    opened(tmp_path, before.url).close("finished", 0)
    assert {"Bearer from-environment"} == {
        headers.get("Authorization") for _, p, headers, _ in before.seen if "api" in p
    }
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    before.seen.clear()
    backend = opened(tmp_path, before.url.replace("://", "://me:hush@"))
    assert "hush" not in f"{backend.url}{backend.config!r}"
    backend.close("finished", 0)
    assert {"Basic bWU6aHVzaA=="} == {headers.get("Authorization") for _, p, headers, _ in before.seen if "api" in p}


def test_no_secret_in_an_error(tmp_path: Path) -> None:
    url = f"http://me:hush@127.0.0.1:{free_port()}"
    with pytest.raises(BackendUnavailable) as caught:
        opened(tmp_path, url, headers={"X": "hush"})
    assert "hush" not in f"{caught.value!r}"


# -- the program's own calls


def test_the_programs_own_calls_keep_mlflows_patience(before: Proxy, tmp_path: Path) -> None:
    """Our short retries stand in the environment for the moment in which MLflow reads them, and not while we wait."""
    names = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_TRACKING_AUTH")
    before.watch = lambda: [name for name in names if name in os.environ]
    backend = opened(tmp_path, before.url)
    give(backend, scalar("loss", 1, 1), Text("t", "x", 1, WALL), Params({"lr": 1}, WALL), histogram("h", 1))
    backend.close("finished", 0)

    assert len(before.watched) > 10
    assert [] == [name for found in before.watched for name in found]


def test_what_the_user_set_is_kept(before: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened(tmp_path, before.url)
    before.refuse = lambda method, path, body: (500, b"oops")
    before.seen.clear()
    with monkeypatch.context() as patch, pytest.raises(BackendUnavailable):
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        patch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        give(backend, scalar("loss", 1, 1))
    assert 2 == len(before.seen)
    before.refuse = lambda method, path, body: None
    backend.close("finished", 0)


def test_artifacts_with_odd_paths_over_http(server: Server, tmp_path: Path) -> None:
    """ "#", "?" and "%" would end or change the path of the request."""
    backend = opened(tmp_path, server.url)
    names = ["a b/ü.txt", "a#b.txt", "a?b=c.txt", "50%41.txt", "plus+plus.txt", "semi;colon&and.txt", "~tilde"]
    give(backend, *[Artifact(name, (spooled("f", name.encode()),), WALL) for name in names])
    backend.close("finished", 0)

    assert {name: name.encode() for name in names} == held(server, tmp_path).own_artifacts()


def test_a_later_session_knows_the_parameters(server: Server, tmp_path: Path) -> None:
    """What an earlier one stored is read from the run's own artifacts, on the run's own server."""
    for values in ({"lr": 0.1, "layers": [1, None]}, {"lr": 0.2}):
        backend = opened(tmp_path, server.url)
        give(backend, Params(values, WALL))
        backend.close("finished", 0)
    run = held(server, tmp_path)

    assert {"lr": 0.2, "layers": [1, None]} == run.exact_params
    assert ("0.1", "0.2") == (run.params["lr"], run.tags["tracelet.param.lr"])


def test_the_page_of_the_run(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`url` is where the server shows it; MLflow's own line about that stays off the terminal."""
    backend = opened(tmp_path, server.url)
    run = backend.native.info
    assert f"{server.url}/#/experiments/{run.experiment_id}/runs/{run.run_id}" == backend.url
    backend.close("finished", 0)

    assert ("", "") == capfd.readouterr()


def test_probe_asks_the_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.url)
        assert MlflowBackend.probe().ok
        patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
        assert "does not answer" in MlflowBackend.probe().detail


# -- how far the run is


def requests_of(proxy: Proxy) -> list[tuple[str, bool, int]]:
    """From now on, fill a list with (method, whether the request has the tag of the last record, metrics)."""
    found: list[tuple[str, bool, int]] = []

    def note(method: str, path: str, body: bytes) -> None:
        is_batch = path.endswith("log-batch")
        metrics = len(json.loads(body).get("metrics", [])) if is_batch else 0
        if is_batch or method == "PUT":
            found.append((method, b"tracelet.held." in body, metrics))

    proxy.refuse = note
    return found


def test_the_number_of_the_last_record_comes_last(before: Proxy, tmp_path: Path) -> None:
    """In the request of the batch's last points, behind its files and all else; a request of its own costs time."""
    backend = opened(tmp_path, before.url)
    give(backend, Params({"lr": 1}, WALL), Text("t", "x", 1, WALL))  # reads the parameters of earlier sessions
    found = requests_of(before)
    give(backend, *[scalar("loss", at, at) for at in range(30)])
    assert [("POST", True, 30)] == found
    found.clear()
    give(backend, *[scalar("loss", at, at) for at in range(1200)], Text("u", "x", 1, WALL), scalar("loss", 1, 1))
    assert [("POST", False, 1000), ("PUT", False, 0), ("PUT", False, 0), ("POST", True, 201)] == found
    found.clear()
    give(backend, *[scalar("full", at, at) for at in range(1000)])  # MLflow would send the 1000th point after the tag
    assert [("POST", False, 1000), ("POST", True, 0)] == found
    before.refuse = lambda method, path, body: None
    backend.close("finished", 0)


def test_an_interrupted_batch_does_not_move_it(before: Proxy, tmp_path: Path) -> None:
    """Its files are in the store, and its points or its number are not: it is offered again."""
    backend = opened(tmp_path, before.url)
    give(backend, scalar("loss", 0, 0), last=3)
    before.refuse = lambda method, path, body: (500, b"oops") if b"tracelet.held." in body else None
    with pytest.raises(BackendUnavailable):
        give(backend, Text("t", "x", 1, WALL), scalar("loss", 1, 1), last=5)
    assert 3 == backend.durable()
    before.refuse = lambda method, path, body: None

    assert 3 == configured(tmp_path, before.url).open(info(tmp_path))
    backend.close("finished", 0)
