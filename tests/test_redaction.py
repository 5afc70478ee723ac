"""Credentials are known by their values, wherever they stand; words that only look like one stay."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from backends.faults import Faulty, journalled, raises

import tracelet
from tracelet.backends.base import BackendConfig, Written
from tracelet.backends.capabilities import Probing
from tracelet.backends.memory import MemoryBackend
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.journal.store import JournalReader
from tracelet.records import Artifact, Layout, Mesh, Params, Scalar, Table, Text
from tracelet.redaction import Secrets, passwords_in_url

KEY = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "tok-very-secret-word"


class Keyed(MemoryBackend, Probing):
    """A backend with a key in its config and a token in its environment, which tells both in its errors."""

    name = "keyed"

    class Config(BackendConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
        secret_keys = ("api_key",)

        api_key: str | None = None
        place: str | None = None

    def secrets(self):
        return [os.environ["KEYED_TOKEN"]]

    def write(self, batch):
        for at, record in enumerate(batch):
            if isinstance(record, Text) and record.text == "refuse me":
                return Written(at, RecordRejected(f"no, {self.config.api_key}"))
            self.records.append(record)
        return None


class SignedIn(MemoryBackend, Probing):
    """A backend whose vendor is signed in with a credential."""

    name = "signed_in"

    def __init__(self, secret):
        super().__init__()
        self.secret = secret

    def secrets(self):
        return [self.secret]


@pytest.fixture
def keyed(monkeypatch):
    """A backend with its credentials in use."""
    monkeypatch.setenv("KEYED_TOKEN", TOKEN)
    return Keyed(Keyed.Config(api_key=KEY, place="here"))


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_no_credential_reaches_the_disk_or_the_backend(keyed, caplog):
    """Parameters, texts, tables, what is said of an artifact and of the run, and refusals."""
    caplog.set_level(logging.INFO)
    experiment = tracelet.start_logging(
        f"run {TOKEN}", f"project {TOKEN}", backend=keyed, notes=f"with {KEY}", tags=["a", TOKEN], group=TOKEN
    )
    experiment.log_params({"key": KEY, "nested": {"url": f"https://u:{TOKEN}@host"}, "list": [1, TOKEN], KEY: 1})
    experiment.log_text("note", f"signed in with {KEY}, and {TOKEN}")
    experiment.log_text("note", "refuse me")
    experiment.log_table("t", [[1, TOKEN]], columns=["a", "b"])
    experiment.stop()

    written = on_disk(experiment.folder)
    assert KEY.encode() not in written
    assert TOKEN.encode() not in written
    assert KEY not in caplog.text
    assert TOKEN not in caplog.text
    (params,) = keyed.of(Params)
    assert {"key": "***", "nested.url": "https://u:***@host", "list": [1, "***"], "***": 1} == params.values
    assert ["signed in with ***, and ***"] == [one.text for one in keyed.of(Text)]
    with JournalReader(experiment.folder) as reader:
        info = reader.info()
        assert ["no, ***"] == [one.reason for one in reader.rejections("keyed")]
        assert {"place": "here"} == reader.facts()["config keyed"]
    assert ("run ***", "with ***", ("a", "***"), "***") == (info.name, info.notes, info.tags, info.group)
    assert "project ***" == info.project
    assert TOKEN not in str(experiment.folder)


def test_words_that_only_look_like_a_credential_stay(keyed):
    """By value, never by name: `pad_token` and `max_tokens` are hyper-parameters."""
    given = {"pad_token": "<pad>", "max_tokens": 512, "api_key": "none", "password": "hunter2", "secret": True}
    with tracelet.start_logging(backend=keyed) as experiment:
        experiment.log_params(given)
    (params,) = keyed.of(Params)
    assert given == params.values


def test_numbers_names_and_files_are_left_alone(keyed, tmp_path):
    """A value is never changed: what a file holds is the user's, and so is the name of a series."""
    (tmp_path / "notes.txt").write_text(TOKEN)
    with tracelet.start_logging(backend=keyed) as experiment:
        experiment.log_metric("loss", float("nan"), 1)
        experiment.log_artifact(tmp_path / "notes.txt")
    assert 1 == len(keyed.of(Scalar))
    (artifact,) = keyed.of(Artifact)
    assert TOKEN == Path(artifact.files[0].path).read_text()


def test_a_key_that_only_the_vendor_knew_is_hidden_once_it_is_open(monkeypatch, tmp_path):
    """A backend may sign in with what its vendor keeps in a file of its own."""

    class Late(Keyed):
        name = "late"
        opened = False

        def open(self, run):
            self.opened = True

        def secrets(self):
            return [TOKEN] if self.opened else []

    late = Late()
    with tracelet.start_logging(backend=late) as experiment:
        assert experiment.flush(20)
        experiment.log_text("note", TOKEN)
    assert ["***"] == [one.text for one in late.of(Text)]


def test_the_reason_of_an_outage_is_hidden_too(monkeypatch, caplog):
    """What a vendor says of a failed request may hold the URL with its password."""
    monkeypatch.setenv("TRACELET_BACKEND_URL", f"http://me:{TOKEN}@host/api")
    backend = Faulty(open=raises(BackendUnavailable(f"no answer from http://me:{TOKEN}@host/api")))
    experiment = tracelet.start_logging(backend=backend)
    experiment.log_metric("loss", 1.0, 1)
    assert "***" in experiment.stats().backends["faulty"].reason
    experiment.stop(timeout=0.5)
    assert "no answer from http://me:***@host/api" in caplog.text
    assert TOKEN not in caplog.text
    assert TOKEN.encode() not in on_disk(experiment.folder)


def test_a_short_word_is_no_secret():
    """Below eight letters a password stands in ordinary words; hiding it would change what was logged."""
    secrets = Secrets()
    secrets.add(["admin", "", None])
    assert "admin/loss" == secrets.hide("admin/loss")


def test_one_secret_inside_another():
    secrets = Secrets()
    secrets.add([TOKEN, f"{TOKEN}-and-more"])
    assert "*** ***" == secrets.hide(f"{TOKEN}-and-more {TOKEN}")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://me:pa%40ss@host:8/x", ["pa%40ss", "pa@ss"]),
        ("http://host/x", []),
        ("sqlite:///a.db", []),
        ("http://[broken", []),
        (None, []),
    ],
)
def test_the_password_in_a_url(url, expected):
    assert expected == passwords_in_url(url)


def test_a_table_that_is_no_text_stays_as_it_is():
    """Bytes that are not UTF-8 come through to the bit."""
    secrets = Secrets()
    secrets.add([TOKEN])
    record = Table("t", b"\xff\xfe" + TOKEN.encode(), 0, 0.0)
    assert b"\xff\xfe***" == secrets.clean(record).data


def test_params_of_any_shape_survive(keyed):
    """Redaction keeps what it does not touch: NaN, nested lists, None."""

    @dataclasses.dataclass
    class Config:
        a: float = float("inf")
        b: tuple = (1, None, "x")

    with tracelet.start_logging(backend=keyed) as experiment:
        experiment.log_params(Config())
    (params,) = keyed.of(Params)
    assert float("inf") == params.values["a"]
    assert [1, None, "x"] == list(params.values["b"])
    (kept,) = [one for one in journalled(experiment.folder) if isinstance(one, Params)]
    assert params == kept


def test_the_journal_has_no_copy_in_its_pages(keyed):
    """Neither rows nor free pages of the database hold it."""
    with tracelet.start_logging(backend=keyed) as experiment:
        experiment.log_params({"key": KEY})
        experiment.flush(10)
    with sqlite3.connect(experiment.folder / "journal.db") as db:
        assert ("ok",) == db.execute("PRAGMA integrity_check").fetchone()
    assert KEY.encode() not in (experiment.folder / "journal.db").read_bytes()


@pytest.mark.parametrize("secret", ['pass"word', "back\\slash", "tab\tand\nline", "pässwörd", "nnnnnnnn"])
def test_a_secret_that_json_escapes_is_hidden_in_every_document(secret):
    """Tables, layouts and meshes are redacted before encoding; a text may quote the secret as JSON or Python does."""
    memory = SignedIn(secret)
    layout = json.dumps({"category": [{"title": f"with {secret}", "charts": [1.5, float("inf"), None]}]})
    rows = [[f"{secret}!", "\n" * 9 + "n" * 7], [2.5, float("nan")]]
    with tracelet.start_logging(backend=memory) as experiment:
        experiment.log_table("t", rows, columns=["a", secret])
        experiment._submit(Layout("l", layout, 1, 1.0))
        experiment._submit(Mesh("m", (b"ply",), json.dumps({"camera": secret}), 1, 1.0))
        experiment.log_text("quoted", f"{json.dumps(secret)} {secret!r}")

    (table,) = memory.of(Table)
    found = json.loads(Path(table.data.path).read_bytes())
    assert ["a", "***"] == found["columns"]
    assert ["***!", rows[0][1]] == found["rows"][0]
    assert (2.5, True) == (found["rows"][1][0], math.isnan(found["rows"][1][1]))
    (hidden,) = memory.of(Layout)
    chart = {"title": "with ***", "charts": [1.5, float("inf"), None]}
    assert {"category": [chart]} == json.loads(hidden.layout)
    assert [{"camera": "***"}] == [json.loads(mesh.config) for mesh in memory.of(Mesh)]
    assert ["*** ***"] == [text.text.replace('"', "").replace("'", "") for text in memory.of(Text)]


@pytest.mark.parametrize("secret", ['pass"word', "back\\slash", "p@ss word/1", "pässwörd"])
def test_a_secret_is_hidden_as_urls_and_nested_json_write_it(secret):
    memory = SignedIn(secret)
    spelled = [quote(secret, safe=""), quote_plus(secret), json.dumps(json.dumps(secret))]
    with tracelet.start_logging(backend=memory) as experiment:
        experiment.log_params({str(number): f"<{text}>" for number, text in enumerate(spelled)})
    (params,) = memory.of(Params)
    assert [True] * 3 == ["***" in text for text in params.values.values()]
    assert not any(text[1:-1].strip('\\"') != "***" for text in params.values.values())


def test_a_document_without_a_secret_stays_as_it_was_written():
    """Redaction changes no byte where there is nothing to hide: spacing, escapes and long numbers."""
    secrets = Secrets()
    secrets.add(['pass"word'])
    document = '{ "a":1.10, "b": "\\u00e9\\/", "c": 1e999, "d": NaN }'
    assert document == secrets.hide_in_json(document)
