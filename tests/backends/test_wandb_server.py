"""wandb against a server that is there, that is not, and that fails: told by the stand-in what it was given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from backends.test_wandb import WALL, give, info, png, scalar, spooled, surroundings
from backends.wandb_server import Answer, ServerRun, WandbServer, content
from backends.writing import write_whole
from support import BUSY, TESTS, until

from tracelet.backends.wandb import WandbBackend, WandbConfig, connection
from tracelet.errors import BackendUnavailable
from tracelet.records import Artifact, Image, Params, Record, Text
from tracelet.testing import BackendContract, Stored

QUICK = {"x_file_stream_transmit_interval": 1.0}
"""wandb sends rows every 15 s; here the server shall have some of them soon."""


@pytest.fixture
def server() -> Iterator[WandbServer]:
    made = WandbServer().start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: WandbServer) -> Iterator[Path]:
    """wandb writes below this test's folder only, and its session begins with this test's environment."""
    yield from surroundings(tmp_path, monkeypatch, server.environment())


def opened(folder: Path, **config: Any) -> WandbBackend:
    return reopened(folder, **config)[0]


def reopened(folder: Path, **config: Any) -> tuple[WandbBackend, int | None]:
    """A backend, and the last number that need not be written again."""
    backend = WandbBackend(WandbConfig(**config))
    return backend, backend.open(info(folder))


def waits(folder: Path) -> str | None:
    return WandbBackend.pending_upload(folder / "run")


def upload_offline(folder: Path, seconds: float = 30) -> None:
    WandbBackend().upload_offline(info(folder), time.monotonic() + seconds)


def taken(backend: WandbBackend, record: Record) -> bool:
    """Whether a record is taken now; a delivery offers it until it is."""
    try:
        give(backend, record)
    except BackendUnavailable:
        return False
    return True


def points(run: ServerRun, key: str = "loss") -> list[tuple[Any, Any]]:
    return [(step, value) for step, value, _ in run.series(key)]


class TestWandbServerContract(BackendContract):
    """The exam, read back from what the server was told."""

    wall_time_error = 1.0  # scalars that share a row share its time
    knows_its_store = True

    @pytest.fixture(autouse=True)
    def _known(self, server: WandbServer) -> None:
        self.server = server

    def make_backend(self, tmp_path: Path) -> WandbBackend:
        return WandbBackend()

    def shown_value(self, value: float) -> float:
        return value or 0.0  # wandb sends -0.0 as 0

    def shown_summary(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}  # wandb sends no None

    def read_back(self, tmp_path: Path) -> Stored:
        return content(self.server)


# -- the server is there


def test_a_run_is_uploaded_as_it_was_said(server: WandbServer, folder: Path) -> None:
    """Rows, picture, config, artifact, exit code: all at the server after `close`, and nothing waits."""
    backend = opened(folder)
    assert (None, "http") == (backend.offline_reason, str(backend.url)[:4])
    give(
        backend,
        *[scalar("loss", step / 3, step) for step in range(10)],
        Params({"lr": 0.1}, WALL),
        Image("i", spooled(folder, "i.png", png()), "png", 3, 2, 1, WALL),
        Artifact("a.bin", (spooled(folder, "a.bin", b"x"),), WALL),
    )
    wandb.log({"own": 1}, step=3)
    backend.close("failed", 3)
    run = server.the_run()

    assert [(step, step / 3) for step in range(10)] == points(run)
    assert [[png()], [1], 0.1, [3]] == [
        server.media(run, "i"),
        run.values("own"),
        run.config["lr"]["value"],
        run.exit_codes,
    ]
    assert [{"a.bin": b"x"}] == [server.entries(one) for one in server.committed()]
    assert waits(folder) is None


def test_a_second_process_goes_on_after_the_first(server: WandbServer, folder: Path) -> None:
    """The lines of the history go on where they ended, and what is held is known before anything is written."""
    first = opened(folder)
    last = give(first, *[scalar("loss", step, step) for step in range(10)])
    first.close("finished", 0)
    wandb.teardown()
    second, position = reopened(folder)
    assert (last, last) == (position, second.durable())
    give(second, *[scalar("loss", step, step) for step in range(10, 20)])
    second.close("finished", 0)

    assert [(step, step) for step in range(20)] == points(server.the_run())


# -- the server is not there when the run begins


def answers(code: int, **headers: str) -> Callable[[WandbServer], Any]:
    return lambda server: (
        lambda call: Answer(code, headers={name.replace("_", "-"): at for name, at in headers.items()})
    )


FAULTS: dict[str, Callable[[WandbServer], Any]] = {
    "401": answers(401),
    "403": answers(403),
    "429": answers(429, Retry_After="1"),
    "500": answers(500),
    "hangs": lambda server: server.hang,
    "hangs at the run": lambda server: lambda call: server.hang(call) if call == "UpsertBucket" else None,
    "forbids the run": lambda server: lambda call: Answer(403) if call == "UpsertBucket" else None,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_begins_without_its_server(fault: str, server: WandbServer, folder: Path) -> None:
    """In time for `start_logging` there is a `wandb.run`, the reason is told, and later all of it is at the server."""
    begun = time.monotonic()
    with server.fault(FAULTS[fault](server)):
        backend, position = reopened(folder, finish_timeout=1.0)
        assert time.monotonic() - begun < 9
        assert backend.offline_reason
        assert "\n" not in backend.offline_reason
        wandb.log({"own": 1}, step=3)
        last = give(backend, *[scalar("loss", step, step) for step in range(10)])
        backend.flush()
        assert (0, 0) == (position, backend.durable())
        with pytest.raises(BackendUnavailable):
            backend.close("finished", 0)
    assert backend.durable() == 0
    assert waits(folder)
    upload_offline(folder)

    run = server.the_run()
    assert ([(step, step) for step in range(10)], [1], [0]) == (points(run), run.values("own"), run.exit_codes[-1:])
    assert waits(folder) is None
    later, position = reopened(folder)
    assert (last, last) == (position, later.durable())
    later.close("finished", 0)
    assert 10 == len(points(run))


@pytest.mark.parametrize("where", ["http://127.0.0.1:9", "http://no.such.host.invalid", "tls", "no key"])
def test_no_way_to_the_server(where: str, server: WandbServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, a wrong host, a server that speaks no TLS, no API key: the run begins offline within two seconds."""
    monkeypatch.setenv("WANDB_BASE_URL", server.url.replace("http", "https") if where == "tls" else where)
    if where == "no key":
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.delenv("WANDB_API_KEY")
    wandb.setup().ensure_service()  # the start of its process is not the network's
    begun = time.monotonic()
    backend = opened(folder)

    assert time.monotonic() - begun < 2 + BUSY
    assert ("API key" if where == "no key" else "://") in str(backend.offline_reason)
    assert wandb.run is backend.native
    with pytest.raises(BackendUnavailable):
        backend.close("finished", 0)


def test_a_server_that_comes_back_gets_the_run_at_its_end(server: WandbServer, folder: Path) -> None:
    """What was recorded offline is handed over by `close` if the server answers by then."""
    server.stop()
    backend = opened(folder)
    last = give(backend, *[scalar("loss", step, step) for step in range(10)])
    server.start()
    backend.close("finished", 0)

    assert (last, None) == (backend.durable(), waits(folder))
    assert [(step, step) for step in range(10)] == points(server.the_run())


def test_recordings_are_handed_over_in_their_order(
    server: WandbServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes without a server, one with: it delivers what the others left before it goes on."""
    server.stop()
    for begin in (0, 10):
        backend = opened(folder)
        give(backend, *[scalar("loss", step, step) for step in range(begin, begin + 10)])
        with pytest.raises(BackendUnavailable):
            backend.close("finished", 0)
        wandb.teardown()
    server.start()
    monkeypatch.setattr(connection, "_CONNECT_TIMEOUT", 60.0)  # two `wandb sync` on a loaded machine
    backend = opened(folder)
    assert backend.offline_reason is None
    give(backend, *[scalar("loss", step, step) for step in range(20, 30)])
    backend.close("finished", 0)

    assert [(step, step) for step in range(30)] == points(server.the_run())
    assert waits(folder) is None


def test_what_is_recorded_is_known_without_a_run(server: WandbServer, folder: Path) -> None:
    """So that a sync without a server begins no recording that would stay empty."""
    server.stop()
    assert 0 == WandbBackend.offline_seq(folder / "run")
    backend = opened(folder)
    last = give(backend, *[scalar("loss", step, step) for step in range(10)])
    with pytest.raises(BackendUnavailable):
        backend.close("finished", 0)

    assert last == WandbBackend.offline_seq(folder / "run")


def test_handing_over_twice_changes_nothing(server: WandbServer, folder: Path) -> None:
    """Nor does what the user delivered by `wandb sync` go a second time."""
    server.stop()
    backend = opened(folder)
    give(backend, *[scalar("loss", step, step) for step in range(10)])
    with pytest.raises(BackendUnavailable):
        backend.close("finished", 0)
    server.start()
    store = waits(folder)
    subprocess.run([sys.executable, "-m", "wandb", "sync", store], check=True, timeout=60, stdin=subprocess.DEVNULL)
    assert waits(folder) is None
    upload_offline(folder)
    upload_offline(folder)

    assert [(step, step) for step in range(10)] == points(server.the_run())


def test_a_hand_over_that_was_cut_off_is_finished(server: WandbServer, folder: Path) -> None:
    """The server took some rows and died: the rest follows, and no row is there twice."""
    server.stop()
    backend = opened(folder)
    give(backend, *[scalar("loss", step, step) for step in range(3000)])
    with pytest.raises(BackendUnavailable):
        backend.close("finished", 0)
    server.start()
    kept: dict[int, str] = {}

    def cut(call: str) -> Answer | None:
        return Answer(404) if call == "file_stream" and server.calls[call] > 1 else None

    # The stand-in for a death in the middle: a thousand rows are there, the sync of the rest fails.
    upload_offline(folder)
    run = server.the_run()
    for number in range(1000, 3000):
        kept[number] = run.streams["wandb-history.jsonl"].pop(number)
    note = folder / "run" / "wandb.json"
    note.write_text(note.read_text().replace("true", "false"))
    Path(f"{json.loads(note.read_text())['recordings'][0]['file']}.synced").unlink()
    server.calls.clear()
    with server.fault(cut), pytest.raises(BackendUnavailable):
        WandbBackend().upload_offline(info(folder), time.monotonic() + 3)
    upload_offline(folder)

    assert [(step, step) for step in range(3000)] == points(run)
    assert [row["_step"] for row in run.rows] == list(range(3000))
    assert waits(folder) is None


def test_a_hand_over_ends_at_its_deadline(server: WandbServer, folder: Path) -> None:
    """A server that accepts and never answers, after it was asked: no longer than the caller can wait."""
    server.stop()
    backend = opened(folder)
    give(backend, scalar("loss", 1, 1))
    with pytest.raises(BackendUnavailable):
        backend.close("finished", 0)
    server.start()
    begun = time.monotonic()
    with (
        server.fault(lambda call: server.hang(call) if call == "UpsertBucket" else None),
        pytest.raises(BackendUnavailable, match="too long"),
    ):
        upload_offline(folder, 2)

    assert time.monotonic() - begun < 4 + BUSY
    assert waits(folder)


def test_a_refusal_names_its_time(server: WandbServer, folder: Path) -> None:
    """429 with Retry-After: the one who asks again knows when."""
    server.stop()
    backend = opened(folder)
    with pytest.raises(BackendUnavailable):
        backend.close("finished", 0)
    server.start()
    with server.fault(answers(429, Retry_After="7")(server)), pytest.raises(BackendUnavailable) as caught:
        upload_offline(folder)

    assert 7.0 == caught.value.retry_after


# -- the server fails in the middle


def test_an_outage_in_the_middle_loses_nothing(server: WandbServer, folder: Path) -> None:
    """Gone and back while the run goes on: everything is there once, in order."""
    backend = opened(folder, settings=QUICK)
    give(backend, *[scalar("loss", step, step) for step in range(100)])
    backend.flush()
    until(lambda: server.runs["run1"].streams.get("wandb-history.jsonl"))
    server.stop()
    last = give(backend, *[scalar("loss", step, step) for step in range(100, 200)])
    backend.flush()
    time.sleep(0.5)
    server.start()
    give(backend, *[scalar("loss", step, step) for step in range(200, 300)])
    backend.close("finished", 0)

    assert [(step, step) for step in range(300)] == points(server.the_run())
    assert backend.durable() == last + 100


@pytest.mark.parametrize("code", [429, pytest.param(500, marks=pytest.mark.long)])
def test_a_burst_of_refusals_loses_nothing(code: int, server: WandbServer, folder: Path) -> None:
    """wandb's own retries see to it."""
    backend = opened(folder, settings=QUICK)
    refused = Counter[str]()

    def burst(call: str) -> Answer | None:
        refused[call] += 1
        return Answer(code, headers={"Retry-After": "1"}) if refused[call] <= 2 else None

    with server.fault(burst):
        give(backend, *[scalar("loss", step, step) for step in range(100)], Text("t", "x", 1, WALL))
        artifact = Artifact("a.bin", (spooled(folder, "a.bin", b"x"),), WALL)
        until(lambda: taken(backend, artifact))
        backend.close("finished", 0)

    assert [(step, step) for step in range(100)] == points(server.the_run())
    assert [{"a.bin": b"x"}] == [server.entries(one) for one in server.committed()]


def test_a_slow_server_gets_everything(server: WandbServer, folder: Path) -> None:
    """200 ms a call."""
    with server.fault(server.slow):
        backend = opened(folder)
        assert backend.offline_reason is None
        give(backend, *[scalar("loss", step, step) for step in range(100)])
        backend.close("finished", 0)

    assert [(step, step) for step in range(100)] == points(server.the_run())


@pytest.mark.parametrize("how", ["refuses", "hangs", "forbids"])
def test_an_upload_that_does_not_end_is_told(how: str, server: WandbServer, folder: Path) -> None:
    """The server dies in the middle: `close` says so, the cursor goes back, and later the rest follows once."""
    backend = opened(folder, finish_timeout=1.0, settings=QUICK)
    give(backend, *[scalar("loss", step, step) for step in range(100)])
    backend.flush()
    until(lambda: server.runs["run1"].streams.get("wandb-history.jsonl"))
    last = give(backend, *[scalar("loss", step, step) for step in range(100, 200)])
    backend.flush()
    assert last == backend.durable()
    fault = {"hangs": server.hang, "forbids": lambda call: Answer(403)}.get(how, lambda call: None)
    if how == "refuses":
        server.stop()
    with server.fault(fault):
        last = give(backend, *[scalar("loss", step, step) for step in range(200, 300)])
        begun = time.monotonic()
        with pytest.raises(BackendUnavailable):
            backend.close("finished", 0)
        assert time.monotonic() - begun < 8
    assert 0 == backend.durable()
    assert waits(folder)
    wandb.teardown()
    if how == "refuses":
        server.start()
    upload_offline(folder)

    assert [(step, step) for step in range(300)] == points(server.the_run())
    later, position = reopened(folder)
    assert last == position == later.durable()
    later.close("finished", 0)


def test_an_artifact_waits_for_the_server(server: WandbServer, folder: Path) -> None:
    """While it is gone an artifact is not handed to wandb, which would hold up everything behind it for long."""
    backend = opened(folder)
    server.stop()
    begun = time.monotonic()
    with pytest.raises(BackendUnavailable):
        give(backend, Artifact("a.bin", (spooled(folder, "a.bin", b"x"),), WALL))
    assert time.monotonic() - begun < 4 + BUSY
    server.start()
    give(backend, Artifact("a.bin", (spooled(folder, "a.bin", b"x"),), WALL))
    backend.close("finished", 0)

    assert [{"a.bin": b"x"}] == [server.entries(one) for one in server.committed()]


def test_an_artifact_that_did_not_get_there_is_not_confirmed(server: WandbServer, folder: Path) -> None:
    """Online, artifacts stand in no file: the cursor stays before it, and the rows behind it do not go twice."""
    backend = opened(folder, finish_timeout=1.0)
    first = Artifact("first.bin", (spooled(folder, "first.bin", b"1"),), WALL)  # wandb signs in at the first one
    before = give(backend, first, scalar("loss", 0, 0), scalar("loss", 1, 1))
    backend.flush()
    until(lambda: before == backend.durable())
    file = spooled(folder, "a.bin", b"x")
    artifact, rest = Artifact("a.bin", (file,), WALL), [scalar("loss", step, step) for step in range(2, 10)]
    with server.fault(lambda call: server.hang(call) if call == "CreateArtifact" else None):
        give(backend, artifact)
        last = give(backend, *rest)
        backend.flush()
        assert before == backend.durable()
        with pytest.raises(BackendUnavailable):
            backend.close("finished", 0)
    wandb.teardown()
    later, position = reopened(folder)
    assert before == position
    write_whole(later, [artifact, *rest], last)
    later.close("finished", 0)

    assert [(step, step) for step in range(10)] == points(server.the_run())
    assert [{"first.bin": b"1"}, {"a.bin": b"x"}] == [server.entries(one) for one in server.committed()]


# -- processes that die, and that end


def run_program(source: str, folder: Path, *arguments: object, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """A program in a process group of its own; never left behind."""
    command = [sys.executable, "-c", textwrap.dedent(source), str(folder), *map(str, arguments)]
    program = subprocess.Popen(
        command,
        start_new_session=True,
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = program.communicate(timeout=seconds)
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
            program.communicate()
    return subprocess.CompletedProcess(command, program.returncode, out, err)


def test_a_killed_run_is_finished_without_doubles(server: WandbServer, folder: Path) -> None:
    """kill -9 in the middle of an upload: the server has some, the file has more, the journal has the rest."""
    program = """
        import os, sys, time
        from pathlib import Path
        from backends.test_wandb import give, info, scalar
        from tracelet.backends.wandb import WandbBackend, WandbConfig

        backend = WandbBackend(WandbConfig(settings={"x_file_stream_transmit_interval": 1.0}))
        backend.open(info(Path(sys.argv[1])))
        for start in range(0, 3000, 100):
            last = give(backend, *[scalar("loss", at, at) for at in range(start, start + 100)])
            backend.durable()
            time.sleep(0.05)
        while (backend.durable() or 0) < last:  # the service may send what it has not written yet
            time.sleep(0.01)
        os.killpg(0, 9)
    """
    ended = run_program(program, folder)
    assert -signal.SIGKILL == ended.returncode, ended.stderr
    run = server.the_run()
    assert waits(folder)
    backend, held = reopened(folder)
    assert held
    give_from(backend, held, 3500)
    backend.close("finished", 0)

    assert [(step, step) for step in range(3500)] == points(run)
    assert waits(folder) is None


def test_rows_that_only_the_server_has_are_not_sent_again(
    server: WandbServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 before wandb wrote them to its file: the last row at the server tells which records it has."""
    program = """
        import os, sys, time
        from pathlib import Path
        from backends.test_wandb import give, info, scalar
        from tracelet.backends.wandb import WandbBackend, WandbConfig

        late = {"x_file_stream_transmit_interval": 0.1, "x_transaction_log_flush_interval": 1000.0}
        backend = WandbBackend(WandbConfig(settings=late))
        backend.open(info(Path(sys.argv[1])))
        give(backend, *[scalar("loss", at, at) for at in range(100)], scalar("acc", 1, 99))
        print("given", flush=True)
        sys.stdin.readline()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, start_new_session=True, cwd=TESTS, stdin=pipe, stdout=pipe, text=True) as killed:
        try:
            assert killed.stdout is not None
            assert "given\n" == killed.stdout.readline()
            until(lambda: len(server.the_run().rows) == 99)
        finally:
            os.killpg(killed.pid, signal.SIGKILL)
    monkeypatch.setattr(connection, "_CONNECT_TIMEOUT", 60.0)  # a loaded machine
    monkeypatch.setattr(connection, "_PROBE_TIMEOUT", 60.0)
    backend, position = reopened(folder)
    assert 99 == position  # the 100th scalar was in an open row, as was the other
    give_from(backend, position, 150)
    backend.close("finished", 0)

    assert [(step, step) for step in range(150)] == points(server.the_run())


def give_from(backend: WandbBackend, held: int, end: int) -> None:
    """What a delivery hands over after a restart: everything behind what is held."""
    for start in range(held, end, 100):
        stop = min(start + 100, end)
        write_whole(backend, [scalar("loss", at, at) for at in range(start, stop)], stop)


ENDING = """
    import sys, time
    import tracelet

    exp = tracelet.start_logging("x", "p", "wandb", flush_timeout=3, dir=sys.argv[1] + "/runs")
    for step in range(100):
        exp.log_metric("loss", step, step)
    exp.flush(3)
    print("said", flush=True)
    sys.stdin.readline()
    for step in range(100, 200):
        exp.log_metric("loss", step, step)
    print(f"last {time.time()}", flush=True)
"""


@pytest.mark.parametrize(
    ("when", "how"),
    [
        ("from the beginning", "hangs"),
        ("in the middle", "refuses"),
        pytest.param("from the beginning", "refuses", marks=pytest.mark.long),
        pytest.param("in the middle", "hangs", marks=pytest.mark.long),
    ],
)
def test_the_end_of_a_program_is_bounded(when: str, how: str, server: WandbServer, folder: Path) -> None:
    """A dead server costs the end of a program without `stop` its flush_timeout and two seconds at most, and no row."""

    def die() -> None:
        if how == "refuses":
            server.stop()
        else:
            server.faults.append(server.hang)

    if when == "from the beginning":
        die()
    command = [sys.executable, "-c", textwrap.dedent(ENDING), str(folder)]
    pipe = subprocess.PIPE
    program = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=folder)
    try:
        assert program.stdout
        assert program.stderr
        assert "said\n" == program.stdout.readline(), program.stderr.read()
        if when == "in the middle":
            die()
        out, err = program.communicate("\n", timeout=60)
        ended = time.time()
    finally:
        if program.poll() is None:
            program.kill()
            program.communicate()
    assert (0, "last") == (program.returncode, out.split()[0]), err
    assert ended - float(out.split()[1]) < 3 + 2 + BUSY, err
    assert "Traceback" not in err
    server.faults.clear()
    if how == "refuses":
        server.start()
    sync = [sys.executable, "-m", "tracelet", "sync", "--dir", f"{folder}/runs", "--all"]
    assert 0 == subprocess.run(sync, timeout=60, check=False, cwd=folder).returncode
    assert [(step, step) for step in range(200)] == points(server.the_run())
