"""Alerts to a webhook: the message, what a server may answer, and that the address is nowhere."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
import types

import pytest
from backends.faults import assert_balanced
from backends.webhook_server import Answer, serving
from programs import DEADLINE, run_program, started, the_run
from support import BUSY, our_threads, until

import tracelet
from tracelet import doctor, settings, sync
from tracelet.backends import backend_class, known_backends
from tracelet.backends.webhook import WebhookBackend, adapter
from tracelet.backends.webhook.config import WebhookConfig
from tracelet.backends.webhook.messages import message
from tracelet.compat import wandb as facade
from tracelet.delivery import backoff
from tracelet.doctor import examine_backend
from tracelet.experiment import log_methods
from tracelet.journal.store import JournalReader
from tracelet.records import Alert, RunInfo
from tracelet.runs import cleanup
from tracelet.runs.summary import summarise
from tracelet.testing import MemoryBackend

TOKEN = "XoWkQ7bTq2vLz0NRu1YfCcd8"
PATH = f"/services/T0001/B0002/{TOKEN}"
RUN = RunInfo(run_id="20260131-142501-x3k9qa", project="vision", name="resnet", folder="")
ALERT = Alert("loss is NaN", "at step 700", "error", 12.5)


@pytest.fixture(name="server")
def _server():
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(backoff, "FIRST", 0.05)


def alerted(address, *titles, **arguments):
    """A run that has ended, with these alerts."""
    arguments = {"flush_timeout": DEADLINE} | arguments
    with tracelet.start_logging("resnet", "vision", alert_webhook=address, **arguments) as experiment:
        for title in titles:
            experiment.alert(title, "at step 700", "error")
    return experiment


def of_webhook(experiment):
    assert_balanced(experiment.stats())
    return experiment.stats().backends["webhook"]


# The message.


def test_each_server_gets_its_format():
    page = "https://wandb.example/run/1"
    lines = "[error] loss is NaN\nat step 700\nvision/resnet (20260131-142501-x3k9qa)\nhttps://wandb.example/run/1"
    assert {"text": lines} == message(ALERT, RUN, page, "hooks.slack.com")
    for host in ("discord.com", "canary.discord.com", "discordapp.com"):
        assert {"content": lines, "allowed_mentions": {"parse": []}} == message(ALERT, RUN, page, host)
    assert {
        "title": "loss is NaN",
        "text": "at step 700",
        "level": "error",
        "time": 12.5,
        "run": "resnet",
        "run_id": RUN.run_id,
        "project": "vision",
        "url": page,
    } == message(ALERT, RUN, page, "notslack.com")


def test_a_message_without_text_name_or_page():
    bare = RunInfo(run_id="r1", project=None, name=None, folder="", label="rank-1")
    assert {"text": "[info] done\nr1, rank-1"} == message(Alert("done", "", "info", 0.0), bare, None, "slack.com")


def test_markup_notifies_nobody():
    """Slack reads `<!channel>`, Discord `@everyone`; lone surrogates are no text."""
    evil = Alert("<!channel> & @everyone", "\ud800", "info", 0.0)
    assert "&lt;!channel&gt; &amp; @everyone\n?" in message(evil, RUN, None, "hooks.slack.com")["text"]
    assert {"parse": []} == message(evil, RUN, None, "discord.com")["allowed_mentions"]


@pytest.mark.parametrize(("host", "limit"), [("hooks.slack.com", 40_000), ("discord.com", 2_000)])
@pytest.mark.parametrize("character", ["x", "&", "\U0001f4c9"])
def test_a_long_message_is_cut_with_a_mark(host, limit, character):
    """Title, run and page stay; the length counts escapes, and two for a character beyond 16 bits."""
    page = "https://wandb.example/run/1"

    def text(count, title="t"):
        found = message(Alert(title, character * count, "info", 0.0), RUN, page, host)
        (text,) = [value for value in found.values() if isinstance(value, str)]
        assert len(text.encode("utf-16-le")) // 2 <= limit
        return text

    width = len(text(1)) - len(text(0)) - 1  # and the end of a line
    exact = (limit - len(text(0)) - 1) // (2 if character > "\uffff" else width)
    assert "…" not in text(exact)
    for long in (text(exact + 1), text(10 * limit), text(10 * limit, character * limit)):
        assert long.startswith("[info] ")
        assert long.endswith(f"({RUN.run_id})\n{page}")
        assert "…\nvision/resnet" in long
    assert "…\n" in text(5, character * limit)


# The way of an alert.


def test_an_alert_is_a_message(server):
    """Beside another backend, whose page it names and whose `config` stays flat; all other records are filtered."""

    class Linked(MemoryBackend):
        url = "https://user:secretword@example.org/runs/1?a=1"

    experiment = tracelet.start_logging(
        "resnet", "vision", Linked(), alert_webhook=f"{server.origin}/hook", config={"exclude": ["x"]}
    )
    experiment.log_metric("loss", 0.5, 1)
    experiment.alert("slow", "very", "warning")
    experiment.stop()
    (sent,) = server.received
    assert ("POST", "/hook") == (sent.method, sent.path)
    assert ("slow", "very", "warning", "resnet", experiment.run_id, "vision") == tuple(
        sent.body[key] for key in ("title", "text", "level", "run", "run_id", "project")
    )
    assert "https://***@example.org/runs/1?a=1" == sent.body["url"]
    status = of_webhook(experiment)
    assert (1, {"accepts": 1}, None) == (status.delivered, status.filtered_by, status.url)
    assert [("x",), ()] == [experiment.get_backend(name).filter.exclude for name in ("memory", "webhook")]


@pytest.mark.parametrize(
    ("address", "key"),
    [(f"http://hooks.slack.com{PATH}", "text"), ("http://discord.com/api/webhooks/1/token", "content")],
)
def test_slack_and_discord_get_theirs(address, key, server, monkeypatch):
    """By their names, through a proxy that is this machine."""
    monkeypatch.setenv("http_proxy", server.origin)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("TRACELET_ALERT_WEBHOOK", address)
    experiment = alerted(None, "loss is NaN", backend="csv")
    (sent,) = server.received
    assert (address, "POST") == (sent.path, sent.method)
    assert f"[error] loss is NaN\nat step 700\nvision/resnet ({experiment.run_id})" == sent.body[key]


def test_alerts_of_wandb_code_are_messages(server, monkeypatch):
    monkeypatch.setenv("TRACELET_ALERT_WEBHOOK", f"{server.origin}/hook")
    with facade.init(project="p") as run:
        run.alert("slow", "very", facade.AlertLevel.WARN)
    assert [("slow", "warning")] == [(one["title"], one["level"]) for one in server.bodies]


def test_a_delivery_process_sends_it(server):
    experiment = alerted(f"{server.origin}{PATH}", "one", "two", backend="csv", delivery="process")
    assert ["one", "two"] == [one["title"] for one in server.bodies]
    assert 2 == of_webhook(experiment).delivered
    assert_hidden(experiment.folder)


def test_a_run_without_alerts_asks_nobody(server):
    experiment = tracelet.start_logging(alert_webhook=server.origin)
    experiment.log_metric("loss", 1)
    experiment.stop()
    assert ([], 1, "closed") == (server.received, of_webhook(experiment).filtered, of_webhook(experiment).state)


# What a server answers.


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_names_a_time_is_not_asked_before(status):
    with serving(Answer(), Answer(status, (("Retry-After", "1"),))) as server:
        experiment = alerted(server.origin, "one", "two", "three")
    assert ["one", "two", "two", "three"] == [one["title"] for one in server.bodies]
    assert server.received[2].at - server.received[1].at >= 1
    assert (3, 0) == (of_webhook(experiment).delivered, of_webhook(experiment).rejected)


@pytest.mark.parametrize("status", [500, 408, 302, 307])
def test_a_server_that_fails_is_asked_again(status, caplog):
    """A redirect is no delivery: Python would follow it with a GET, without the message."""
    with serving(Answer(status, (("Location", "/moved"),)), Answer(status, (("Location", "/moved"),))) as server:
        experiment = alerted(f"{server.origin}/hook", "one")
    assert [("POST", "/hook")] * 3 == [(one.method, one.path) for one in server.received]
    assert 1 == of_webhook(experiment).delivered
    assert 1 == caplog.text.count(f"127.0.0.1 answered {status}")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_an_address_that_is_not_valid_rejects(status, caplog):
    """Once, with the reason, and what comes later is tried."""
    with serving(Answer(status)) as server:
        experiment = alerted(f"{server.origin}{PATH}", "one", "two")
    assert ["one", "two"] == [one["title"] for one in server.bodies]
    assert (1, 1) == (of_webhook(experiment).delivered, of_webhook(experiment).rejected)
    with JournalReader(experiment.folder) as reader:
        (rejection,) = reader.rejections("webhook")
    assert f"webhook: 127.0.0.1 answered {status} " in rejection.reason
    assert (status != 400) == rejection.reason.endswith("may be invalid or revoked")
    assert rejection.reason in caplog.text
    assert_hidden(experiment.folder, caplog.text)


def test_a_server_that_is_down_gets_it_later(monkeypatch, caplog):
    """Training goes on, the end is in time, the message is pending; `tracelet sync` sends it once."""
    with serving() as server:
        address = f"{server.origin}{PATH}"
    began = time.monotonic()
    experiment = alerted(address, "one", backend="csv", flush_timeout=0.5)
    assert time.monotonic() - began < 0.5 + 2 + BUSY
    assert (1, 0) == (of_webhook(experiment).pending, experiment.stats().backends["csv"].pending)
    assert ["webhook"] == sync.waiting(experiment.folder)
    assert "webhook is unavailable: 127.0.0.1 does not answer ([Errno 111] Connection refused)" in caplog.text
    with serving() as server:
        monkeypatch.setenv("TRACELET_ALERT_WEBHOOK", f"{server.origin}{PATH}")
        for new in (1, 0):
            synced = sync.deliver(experiment.folder, patience=DEADLINE)
            assert (True, new) == (synced.complete, synced.new.get("webhook", 0))
        assert ["one"] == [one["title"] for one in server.bodies]
    assert_hidden(experiment.folder, caplog.text)


def test_a_server_that_hangs_does_not_hold_the_end(caplog):
    with serving(Answer(0)) as server:
        began = time.monotonic()
        experiment = alerted(server.origin, "one", backend="csv", flush_timeout=0.5)
        assert time.monotonic() - began < 0.5 + 2 + BUSY
        assert (1, 0) == (of_webhook(experiment).pending, experiment.stats().backends["csv"].pending)
    until(lambda: not our_threads())


def test_a_hanging_request_has_a_deadline(monkeypatch):
    monkeypatch.setattr(adapter, "_TIMEOUT", 0.2)
    with serving(Answer(0)) as server:
        experiment = alerted(server.origin, "one")
        assert ["one", "one"] == [one["title"] for one in server.bodies]
    assert 1 == of_webhook(experiment).delivered


# Ends and later deliveries.

KILLED = """
    import sys, time, tracelet
    experiment = tracelet.start_logging(backend="csv")
    experiment.alert("one")
    assert experiment.flush(60)
    print("sent", flush=True)
    sys.stdin.readline()
"""


def test_a_message_that_is_known_sent_is_not_repeated(server, monkeypatch):
    """A kill once the cursor is on disk; the run is delivered again, without a new message."""
    monkeypatch.setenv("TRACELET_ALERT_WEBHOOK", f"{server.origin}/hook")
    with started(KILLED) as program:
        assert "sent\n" == program.stdout.readline(), program.stderr.read()
        until(lambda: stored_cursor(the_run()) == 1)
        os.kill(program.pid, signal.SIGKILL)
        program.wait()
    assert sync.deliver(the_run(), ["webhook"], verify=True).complete
    assert ["one"] == [one["title"] for one in server.bodies]


def stored_cursor(folder):
    with JournalReader(folder) as reader:
        return reader.cursors()["webhook"].delivered


def test_a_killed_program_leaves_its_alerts_to_its_delivery_process(monkeypatch):
    """The delivery process sends what is left after the program's death."""
    program = KILLED.replace('backend="csv"', 'delivery="process"').replace("assert experiment.flush(60)", "")
    with serving(Answer(429, (("Retry-After", "1"),))) as server:
        monkeypatch.setenv("TRACELET_ALERT_WEBHOOK", f"{server.origin}/hook")
        with started(program) as running:
            until(lambda: server.received)
            os.kill(running.pid, signal.SIGKILL)
            running.wait()
        until(lambda: summarise(the_run()).status == "killed")
        assert ["one", "one"] == [one["title"] for one in server.bodies]
        assert stored_cursor(the_run()) == 1


def test_old_alerts_are_filtered(server, monkeypatch):
    """`tracelet sync` of an old run is no flood: a day's alerts are sent, the others are counted."""
    address = f"{server.origin}{PATH}"
    with tracelet.start_logging(alert_webhook=address, mode="offline", backend="csv") as experiment:
        experiment.alert("new")
        experiment.log_metric("loss", 1)
        for hours in (23, 25, 24 * 7):
            then = time.time() - hours * 3600
            with monkeypatch.context() as patch:
                patch.setattr(log_methods, "time", types.SimpleNamespace(time=lambda then=then: then))
                experiment.alert(f"{hours} hours")
    assert ["csv", "webhook"] == sync.waiting(experiment.folder)
    monkeypatch.setenv("TRACELET_ALERT_WEBHOOK", address)
    status = {one.name: one for one in sync.deliver(experiment.folder).backends}["webhook"]
    assert ["new", "23 hours"] == [one["title"] for one in server.bodies]
    assert (2, {"accepts": 1, "age": 2}, 0) == (status.delivered, status.filtered_by, status.pending)


def test_a_sync_without_an_address(monkeypatch):
    """Without alerts there is nothing to send; with one, it says what to set."""
    monkeypatch.setattr(sync, "_STOP_TIMEOUT", 0.5)
    with tracelet.start_logging(alert_webhook="http://127.0.0.1:9/hook", mode="offline") as experiment:
        experiment.log_metric("loss", 1)
    assert sync.deliver(experiment.folder).complete
    with tracelet.start_logging(alert_webhook="http://127.0.0.1:9/hook", mode="offline") as experiment:
        experiment.alert("one")
    synced = sync.deliver(experiment.folder, patience=0.5)
    assert ["webhook: its address is stored nowhere. Set TRACELET_ALERT_WEBHOOK"] == [
        one.reason for one in synced.backends
    ]


def test_gc_waits_for_messages_alone(server):
    """The others have the whole run; the webhook lacks all but alerts, and holds no copy."""
    sent = alerted(server.origin, "one", backend="csv")
    assert cleanup.blocking_reason(summarise(sent.folder)) is None
    waiting = alerted(server.origin, "one", backend="csv", mode="offline")
    sync.deliver(waiting.folder, ["csv"])
    assert "webhook lacks 1 records (pending)" == cleanup.blocking_reason(summarise(waiting.folder))
    alone = alerted(server.origin, "one")
    assert "the journal is the only copy" in (cleanup.blocking_reason(summarise(alone.folder)) or "")


# The setting, and the secret.


@pytest.mark.parametrize(
    "address",
    [
        *("hooks.slack.com/x", "ftp://host/x", "http://", "http://user:word@host/", "http://host:99999/", "7"),
        *("http://ho st/", "http://host/a\nb", "http://host/ä"),
    ],
)
def test_an_address_that_cannot_be_one(address):
    """Said on the line of `start_logging`, without it."""
    with pytest.raises(tracelet.ConfigurationError, match="alert_webhook must be an http or https address") as caught:
        tracelet.start_logging(alert_webhook=address)
    assert address not in str(caught.value).replace("http or https", "")


def test_the_backend_by_its_name(server, monkeypatch):
    with pytest.raises(tracelet.ConfigurationError, match="Set alert_webhook or TRACELET_ALERT_WEBHOOK"):
        tracelet.start_logging(backend="webhook")
    experiment = tracelet.start_logging(backend="webhook", config={"alert_webhook": server.origin})
    experiment.alert("one")
    experiment.stop()
    experiment = tracelet.start_logging(backend=WebhookBackend(WebhookConfig(alert_webhook=server.origin)))
    experiment.alert("two")
    experiment.stop()
    assert ["one", "two"] == [one["title"] for one in server.bodies]
    assert "webhook" in known_backends()
    assert backend_class("webhook") is WebhookBackend


def assert_hidden(folder, *texts):
    """No file of the run, and none of the texts, has the token or the path."""
    written = [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]
    assert written
    for text in (*written, *texts):
        assert TOKEN not in text
        assert "/services/" not in text


COMMAND_LINES = """
    import os, pathlib, sys, tracelet
    experiment = tracelet.start_logging(backend="csv", delivery="process", alert_webhook=sys.stdin.readline().strip())
    experiment.alert("one")
    experiment.flush(60)
    print(experiment, experiment._settings, experiment.get_backend("webhook"), experiment.stats())
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"PPid:\\t{os.getpid()}\\n" in (path / "status").read_text():
                print(path.name, (path / "cmdline").read_text(), (path / "environ").read_text())
        except OSError:
            pass
"""


def test_the_address_is_nowhere(server, tmp_path):
    """Run folder, output, logs, and the command line and variables of the delivery process."""
    address = f"{server.origin}{PATH}"
    with started(COMMAND_LINES, TRACELET_COLLECT="environment") as program:
        out, err = program.communicate(f"{address}\n", timeout=DEADLINE)
    assert 0 == program.returncode, err
    assert re.search(r"^\d+ .*worker", out, re.MULTILINE), out
    assert ["one"] == [one["title"] for one in server.bodies]
    listed = run_program("import sys; from tracelet.cli import app; app(['runs'])")
    assert "webhook" in listed.out, listed.err
    assert_hidden(tmp_path, out, err, listed.out)


def test_what_the_program_logs_does_not_have_it(server, caplog):
    caplog.set_level(logging.INFO)
    address = f"{server.origin}{PATH}"
    with tracelet.start_logging(alert_webhook=address, notes=f"see {address}") as experiment:
        experiment.log_params({"hook": address, "token": TOKEN, "path": "/services"})
        experiment.alert(f"posting to {address}", TOKEN)
    (sent,) = server.bodies
    assert ("posting to ***", "***") == (sent["title"], sent["text"])
    assert_hidden(experiment.folder, caplog.text)


def test_a_host_is_no_secret(server):
    """It may be in the data: parameters with the name of the machine stay what they are."""
    host = server.origin.partition("://")[2]
    for address in (server.origin, f"{server.origin}/", f"{server.origin}/alerts/training"):
        with tracelet.start_logging(alert_webhook=address) as experiment:
            experiment.alert(f"seen at {host}", "alerts training")
    assert [(f"seen at {host}", "alerts training")] * 3 == [(one["title"], one["text"]) for one in server.bodies]


def test_no_form_of_the_settings_shows_it(monkeypatch, server):
    address = f"{server.origin}{PATH}"
    monkeypatch.setenv("TRACELET_ALERT_WEBHOOK", address)
    loaded = settings.load({})
    assert address == loaded.alert_webhook
    assert TOKEN not in repr(loaded) + repr(WebhookConfig(alert_webhook=address))
    with pytest.raises(tracelet.ConfigurationError) as caught:
        tracelet.start_logging(alert_webhook=[address])  # type: ignore[arg-type]
    assert TOKEN not in str(caught.value)
    with settings.context(alert_webhook=address, config={"webhook": {"alert_webhook": address}}, notes="kept"):
        assert TOKEN not in os.environ["TRACELET_CONTEXT"]
        assert address == settings.load({}).alert_webhook


def test_the_doctor_looks_at_the_host_alone(server, monkeypatch):
    """At its root: a request to the address itself might be a message."""
    assert "no address" in WebhookBackend.probe().detail
    monkeypatch.setenv("TRACELET_ALERT_WEBHOOK", f"{server.origin}{PATH}")
    found = examine_backend("webhook", timeout=60)
    assert ("ok", True) == (found.state, found.reachable), found
    assert [("GET", "/")] == [(one.method, one.path) for one in server.received]
    assert "***" == doctor._fact("alert_webhook", settings.load({}).alert_webhook, "").value


def test_a_host_that_does_not_answer(monkeypatch):
    with serving() as server:
        monkeypatch.setenv("TRACELET_ALERT_WEBHOOK", f"{server.origin}{PATH}")
    found = WebhookBackend.probe()
    assert (False, False) == (found.ok, found.reachable)
    assert TOKEN not in found.detail


def test_nothing_is_imported_for_a_run_without_it():
    done = run_program(
        """
        import sys, tracelet
        with tracelet.start_logging(backend="csv") as experiment:
            experiment.alert("one")
        print([name for name in sys.modules if "webhook" in name], list(experiment.stats().backends))
        """
    )
    assert "[] ['csv']\n" == done.out, done.err


def test_an_empty_variable_is_no_address(monkeypatch):
    monkeypatch.setenv("TRACELET_ALERT_WEBHOOK", "")
    assert {} == tracelet.start_logging().stats().backends
