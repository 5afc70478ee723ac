"""tracelet doctor: what it finds is so, it never hangs, and it says no credential."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from backends.clearml_server import ClearmlServer
from backends.http_stand_in import Handler, Listener
from backends.wandb_server import WandbServer
from programs import run_program

import tracelet
from tracelet import backends, doctor
from tracelet.backends import _BUILTIN, backend_class, known_backends
from tracelet.backends.capabilities import Probe, Probing
from tracelet.doctor import examine_backend, other_patches
from tracelet.doctor.protocol import AboutWriter
from tracelet.records import KINDS

SERVED = ("clearml", "mlflow", "wandb")
KEY, WRONG = "s" * 40, "w" * 40


@pytest.fixture(autouse=True)
def _registered_again(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(backends, "_registered", {})


@pytest.fixture
def online(monkeypatch):
    """`online("wandb", url)`: the environment leads a vendor to that address, with a key."""

    def lead(name, url, key=KEY):
        monkeypatch.delenv("WANDB_MODE", raising=False)
        monkeypatch.delenv("CLEARML_OFFLINE_MODE", raising=False)
        match name:
            case "wandb":
                told = {"WANDB_BASE_URL": url, "WANDB_API_KEY": key, "WANDB_MODE": "online"}
            case "mlflow":
                told = {"MLFLOW_TRACKING_URI": url, "MLFLOW_TRACKING_TOKEN": key}
            case "clearml":
                told = dict.fromkeys(("CLEARML_API_HOST", "CLEARML_WEB_HOST", "CLEARML_FILES_HOST"), url)
                told |= {"CLEARML_API_ACCESS_KEY": key, "CLEARML_API_SECRET_KEY": key}
        for variable, value in told.items():
            monkeypatch.setenv(variable, value)

    return lead


class _MlflowHandler(Handler):
    """As much of a tracking server as is asked: it is there, and it knows one token."""

    def do_GET(self) -> None:
        known = self.path == "/health" or self.headers.get("Authorization") == f"Bearer {KEY}"
        payload = json.dumps({"experiments": []} if known else {"error_code": "UNAUTHENTICATED"}).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_) -> None:
        return


@contextlib.contextmanager
def mlflow_server() -> Iterator[str]:
    with Listener(("127.0.0.1", 0), _MlflowHandler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        server.hang_up()


@contextlib.contextmanager
def serving(name: str, *, knows: bool = True) -> Iterator[tuple[str, str]]:
    """A server of a vendor's, and a key; one that it takes if it `knows` it."""
    match name:
        case "mlflow":
            with mlflow_server() as url:
                yield url, KEY if knows else WRONG
        case "wandb":
            wandb = WandbServer().start()
            yield wandb.url, wandb.key if knows else WRONG
            wandb.stop()
        case "clearml":
            clearml = ClearmlServer().start()
            if not knows:
                clearml.faults.append(lambda call: (401, {"error": "invalid credentials"}))
            yield clearml.url, KEY if knows else WRONG
            clearml.stop()


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """A socket that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def refusing() -> str:
    """An address where nobody listens."""
    with socket.socket() as once:
        once.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{once.getsockname()[1]}"


def document(result):
    """The one document on standard output, strict."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(result.stdout, parse_constant=refuse)


# Servers.


@pytest.mark.parametrize("name", SERVED)
def test_a_server_that_is_there(name, online):
    """Reachable, signed in, with the address, and without the key."""
    with serving(name) as (url, key):
        online(name, url, key)
        facts = examine_backend(name, timeout=60)

    assert ("ok", True, True) == (facts.state, facts.reachable, facts.signed_in), facts.detail
    assert url in facts.detail
    assert facts.version
    assert key not in repr(facts)


@pytest.mark.parametrize("name", SERVED)
def test_a_server_that_does_not_know_the_key(name, online):
    """It is reachable, and that is not enough; the key is in nothing that is said."""
    with serving(name, knows=False) as (url, key):
        online(name, url, key)
        facts = examine_backend(name, timeout=60)

    assert ("wrong", True, False) == (facts.state, facts.reachable, facts.signed_in), facts.detail
    assert key not in repr(facts)


@pytest.mark.parametrize("name", ["clearml", "wandb"])
def test_nobody_is_signed_in(name, online, monkeypatch):
    """No key anywhere: it says so at once, and asks nobody on the terminal."""
    online(name, refusing())
    for variable in ("WANDB_API_KEY", "CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"):
        monkeypatch.delenv(variable, raising=False)

    facts = examine_backend(name, timeout=60)

    assert ("wrong", False) == (facts.state, facts.signed_in), facts.detail
    assert "run `" in facts.detail


@pytest.mark.parametrize("name", SERVED)
def test_a_server_that_refuses(name, online):
    online(name, refusing())

    facts = examine_backend(name, timeout=60)

    assert ("wrong", False, None) == (facts.state, facts.reachable, facts.signed_in), facts.detail


@pytest.mark.parametrize("name", SERVED)
def test_a_server_that_never_answers(name, online):
    """The deadline holds, whatever the vendor would wait for."""
    with silent() as url:
        online(name, url)
        facts = examine_backend(name, timeout=0.5)

    assert ("wrong", "no answer within 0.5 s") == (facts.state, facts.detail)


@pytest.mark.parametrize("name", ["csv", "memory", "aim", "mlflow"])
def test_what_needs_no_server(name, tmp_path):
    facts = examine_backend(name, timeout=60)

    assert ("ok", None, None) == (facts.state, facts.reachable, facts.signed_in), facts.detail


@pytest.mark.parametrize("name", ["wandb", "clearml"])
def test_a_vendors_own_offline_mode_is_fine(name):
    assert "nothing is sent" in examine_backend(name, timeout=60).detail


def test_the_settings_name_the_server_and_the_key(monkeypatch):
    """As in `start_logging`: TRACELET_BACKEND_URL and TRACELET_API_KEY are those of the one backend."""
    with mlflow_server() as url:
        monkeypatch.setenv("TRACELET_BACKEND_URL", url)
        monkeypatch.setenv("TRACELET_API_KEY", KEY)
        facts = examine_backend("mlflow", timeout=60)

    assert ("ok", True) == (facts.state, facts.signed_in), facts.detail
    assert KEY not in repr(facts)


ASK_EACH = """
    import json, sys
    from tracelet.doctor.child import about_backend
    from tracelet.doctor.protocol import AboutBackend

    name, package, *urls = sys.argv[1:]
    for url in urls:
        print(about_backend(AboutBackend(name=name, package=package, config={"backend_url": url}, timeout=60)))
"""


@pytest.mark.parametrize("name", [*SERVED, "aim"])
def test_a_password_in_an_address_is_not_told(name, online):
    """Of whatever length, and where it makes the address one that the vendor cannot use."""
    secrets = {
        "http://me:hunter2-and-more@127.0.0.1:1": "hunter2",
        "http://me:pw1@127.0.0.1:1": "pw1",
        "me:hunter2@127.0.0.1:1": "hunter2",
        "http://127.0.0.1:1?api_key=hunter2": "hunter2",
    }
    if name in SERVED:
        online(name, refusing())

    done = run_program(ASK_EACH, name, name, *secrets, deadline=120)

    assert (0, len(secrets)) == (done.returncode, done.out.count("BackendAnswer(")), done.err
    assert [] == [secret for secret in secrets.values() if secret in done.out]


def test_a_key_that_the_backend_does_not_know_is_told(monkeypatch):
    monkeypatch.setenv("TRACELET_API_KEY", KEY)

    facts = examine_backend("csv", timeout=60)

    assert "wrong" == facts.state
    assert "has no key 'api_key'" in facts.detail


# Packages.


def changed(monkeypatch, name, **fields):
    monkeypatch.setitem(backends._BUILTIN, name, backends._BUILTIN[name]._replace(**fields))


def test_a_package_that_is_missing(monkeypatch):
    """With the line that installs it."""
    changed(monkeypatch, "aim", package="no_such_package")

    facts = examine_backend("aim")

    assert ("missing", None) == (facts.state, facts.version)
    assert "pip install 'tracelet[aim]'" in facts.detail


def test_a_package_that_is_too_old(monkeypatch):
    changed(monkeypatch, "aim", oldest="999.1")

    facts = examine_backend("aim")

    assert "wrong" == facts.state
    assert facts.version
    assert "needs aim 999.1 or later" in facts.detail
    assert "pip install --upgrade 'tracelet[aim]'" in facts.detail


@pytest.mark.parametrize(
    ("source", "state", "words"),
    [
        ("print('noise'); import sys; print('noise', file=sys.stderr)", "ok", "needs nothing"),
        ("raise RuntimeError('built for another numpy')", "wrong", "RuntimeError: built for another numpy"),
        ("import no_such_module", "wrong", "No module named 'no_such_module'"),
        ("import os; os._exit(3)", "wrong", "ended with code 3"),
        ("import os; os.abort()", "wrong", "ended with code -6"),
    ],
)
def test_a_package_that_is_imported_badly(monkeypatch, tmp_path, capfd, source, state, words):
    """What it prints is not heard, and its crash is its own."""
    (tmp_path / "vendored.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    changed(monkeypatch, "memory", package="vendored")

    facts = examine_backend("memory", timeout=60)

    assert state == facts.state
    assert words in facts.detail
    assert ("", "") == capfd.readouterr()


# Backends of the program's own.


class Mine(tracelet.Backend, Probing):
    """A backend that answers what a test says."""

    name, accepts = "mine", KINDS[:2]
    answer = staticmethod(lambda: Probe(True, "here"))

    @classmethod
    def probe(cls, config=None):
        return cls.answer()


def test_a_backend_of_this_program_is_asked_here(monkeypatch):
    tracelet.register_backend("mine", Mine)

    facts = examine_backend("mine")

    assert ("ok", "here") == (facts.state, facts.detail)
    assert {"scalar": "", "histogram": ""} == facts.places
    assert len(KINDS) - 2 == len(facts.filtered)


def test_a_probe_that_raises_is_told(monkeypatch, swallowed):
    def fail():
        raise ZeroDivisionError("of mine")

    monkeypatch.setattr(Mine, "answer", staticmethod(fail))
    tracelet.register_backend("mine", Mine)

    facts = examine_backend("mine")

    assert ("wrong", "ZeroDivisionError: of mine") == (facts.state, facts.detail)
    swallowed.clear()


def test_a_probe_that_hangs_is_left(monkeypatch):
    released, ended = threading.Event(), threading.Event()

    def hang():
        released.wait(60)
        ended.set()
        return Probe(True, "late")

    monkeypatch.setattr(Mine, "answer", staticmethod(hang))
    tracelet.register_backend("mine", Mine)
    try:
        facts = examine_backend("mine", timeout=0.1)
    finally:
        released.set()

    assert ("wrong", "no answer within 0.1 s") == (facts.state, facts.detail)
    assert ended.wait(60)


# All of it.


@pytest.fixture(scope="module")
def writer_answers():
    return {}


@pytest.fixture
def asked_once(monkeypatch, writer_answers):
    """Each library's writer is asked about in one test; those after it get the same answer."""
    ask = doctor.ask

    def remember(question, *rest):
        if not isinstance(question, AboutWriter):
            return ask(question, *rest)
        if question.module not in writer_answers:
            writer_answers[question.module] = ask(question, *rest)
        return writer_answers[question.module]

    monkeypatch.setattr(doctor, "ask", remember)


def test_the_whole_of_it_is_one_document(call, tmp_path, monkeypatch, asked_once):
    """What nobody asked for is looked at from outside; nothing else is printed, and no credential is."""
    (tmp_path / "tracelet.toml").write_text('project = "digits"\nbackend_url = "me:hunter2@localhost:1"\n')
    monkeypatch.setenv("TRACELET_API_KEY", KEY)
    monkeypatch.setenv("WANDB_API_KEY", KEY)

    result = call("doctor", "--backend", "memory,wandb", "--json", "--timeout", "60")

    found = document(result)
    assert (0, "", True, []) == (result.exit_code, result.stderr, found["ok"], found["problems"])
    assert tracelet.__version__ == found["tracelet"]
    assert KEY not in result.stdout
    assert "hunter2" not in result.stdout
    settings = {one["name"]: (one["value"], one["origin"]) for one in found["settings"]}
    assert ("digits", "tracelet.toml") == settings["project"]
    assert ("***", "TRACELET_API_KEY") == settings["api_key"]
    assert (str(tmp_path), "TRACELET_DIR") == settings["dir"]
    assert ("online", "default") == settings["mode"]
    by_name = {one["name"]: one for one in found["backends"]}
    assert set(known_backends()) == set(by_name)
    assert ["memory", "wandb"] == sorted(name for name, one in by_name.items() if one["asked"])
    assert ["memory", "wandb"] == sorted(name for name, one in by_name.items() if one["state"] == "ok")
    assert {"not asked"} == {one["state"] for one in by_name.values() if not one["asked"]}
    assert "`run.config`" == by_name["wandb"]["places"]["params"]
    assert [("torch", "ok", []), ("tensorboardX", "ok", [])] == [
        (one["name"], one["state"], one["others"]) for one in found["writers"]
    ]
    assert found["compiled_checksums"] is True
    folder = found["folder"]
    assert (str(tmp_path), True, True, None) == (
        folder["path"],
        folder["exists"],
        folder["writable"],
        folder["trouble"],
    )
    assert folder["free"] > 0
    assert [] == [path for path in tmp_path.iterdir() if path.name not in ("home", "tracelet.toml")]


def test_what_is_wrong_is_told_and_is_exit_code_1(call, tmp_path, monkeypatch, asked_once):
    """A setting nobody knows, a folder that cannot be made, a backend that is not there: all at once."""
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("TRACELET_DIR", str(tmp_path / "file" / "runs"))
    changed(monkeypatch, "aim", package="no_such_package")

    result = call("doctor", "--backend", "aim,nobody", "--timeout", "60")

    assert 1 == result.exit_code
    assert "pip install 'tracelet[aim]'" in result.stdout
    assert "unknown backend 'nobody'" in result.stdout
    assert "cannot be written" in result.stdout

    monkeypatch.setenv("TRACELET_COLOUR", "red")
    found = document(call("doctor", "--backend", "csv", "--json", "--timeout", "60"))
    assert found["ok"] is False
    assert ["unknown environment variable TRACELET_COLOUR"] == [one.partition(".")[0] for one in found["problems"]]


@pytest.mark.parametrize("seconds", ["0", "nan", "inf", "1e10"])
def test_a_time_that_cannot_be_meant(call, seconds):
    result = call("doctor", "--timeout", seconds)

    assert (1, 1) == (result.exit_code, len(result.stderr.splitlines()))


def test_a_folder_that_cannot_be_looked_at(call, tmp_path, monkeypatch, asked_once):
    """A name that no file system takes; it is trouble, and the document is printed all the same."""
    monkeypatch.setenv("TRACELET_DIR", str(tmp_path / ("a" * 300)))

    result = call("doctor", "--backend", "csv", "--json", "--timeout", "60")

    found = document(result)
    assert (1, False, False) == (result.exit_code, found["ok"], found["folder"]["writable"])
    assert ["cannot be written: File name too long"] == [one.partition(": ")[2] for one in found["problems"]]


def test_each_fault_is_told_once(call, monkeypatch, asked_once):
    """In its place in the list; and what was not tried says so."""
    monkeypatch.setenv("TRACELET_COLOUR", "red")

    told = call("doctor", "--backend", "csv,nobody", "--timeout", "60").stdout

    assert [1, 1] == [told.count(words) for words in ("TRACELET_COLOUR", "unknown backend 'nobody'")]
    assert "not checked" in next(line for line in told.splitlines() if "memory" in line and "unknown" not in line)


@pytest.mark.parametrize("name", _BUILTIN)
def test_every_kind_has_a_place(name):
    """What a backend accepts, it says where to find."""
    cls = backend_class(name)

    assert isinstance(cls.accepts, Mapping)
    assert all(cls.accepts.values())


# Others who listen to TensorBoard.


def answered(source: str, *, fresh: bool = False) -> list[str]:
    """What a program of its own prints, line for line."""
    done = run_program(source, deadline=120, fresh=fresh)
    assert 0 == done.returncode, done.err
    return done.out.splitlines()


BY_WANDB = "import wandb; wandb.tensorboard.patch(root_logdir='logs', pytorch=True)"
BY_CLEARML = """
from clearml.binding.frameworks.tensorflow_bind import PatchSummaryToEventTransformer as Patch
Patch._original_add_eventT = writer.FileWriter.add_event
writer.FileWriter.add_event = Patch._patched_add_eventT
"""
BY_MLFLOW = """
from mlflow.utils.autologging_utils import safe_patch
listen = lambda original, *args: original(*args)
safe_patch("pytorch", writer.FileWriter, "add_event", listen)
"""
BY_THE_PROGRAM = """
import functools
before = writer.SummaryWriter.add_scalar
writer.SummaryWriter.add_scalar = functools.wraps(before)(lambda *args: before(*args))
"""
LISTENERS = {
    "nobody": ("", ""),
    "wandb": (BY_WANDB, "EventFileWriter wandb.integration.tensorboard.monkeypatch"),
    "clearml": (BY_CLEARML, "FileWriter.add_event clearml.binding.frameworks.tensorflow_bind"),
    "mlflow": (BY_MLFLOW, "FileWriter.add_event mlflow.utils.autologging_utils.safety"),
    "the program": (BY_THE_PROGRAM, "SummaryWriter.add_scalar __main__"),
}


WHEN = [(who, "after") for who in LISTENERS] + [("the program", "before"), ("the program", "alone")]


@pytest.mark.parametrize(("who", "when"), WHEN)
def test_who_else_listens_is_named(who, when):
    """Whether our run began before them, after, or not at all; ours and the libraries' own code are nobody's."""
    source, words = LISTENERS[who]
    expected = f"torch.utils.tensorboard.writer.{words}" if words else ""
    start = "tracelet.start_logging(mode='offline')"
    told = answered(
        "\n".join(
            [
                "import tracelet, tracelet.doctor",
                "from torch.utils.tensorboard import writer",
                start if when == "before" else "",
                source,
                start if when == "after" else "",
                "print(*{f'{one.where} {one.by}' for one in tracelet.doctor.other_patches()}, sep='\\n')",
            ]
        )
    )

    assert expected in told
    assert words or [""] == told


def test_nothing_is_imported_to_look():
    """Looking costs no library."""
    source = "import sys, tracelet.doctor; print(tracelet.doctor.other_patches(), 'torch' in sys.modules)"
    told = answered(source, fresh=True)

    assert ["[] False"] == told


def test_here_nobody_listens():
    assert [] == [one for one in other_patches() if one.by.partition(".")[0] in SERVED]


def test_the_environment_may_switch_a_vendors_own_capture_on(monkeypatch):
    assert examine_backend("wandb", timeout=60).own_capture is None
    monkeypatch.setenv("WANDB_SYNC_TENSORBOARD", "true")

    assert "WANDB_SYNC_TENSORBOARD=true" == examine_backend("wandb", timeout=60).own_capture


def test_who_patches_every_program_here_is_found(tmp_path, monkeypatch):
    """A sitecustomize that wraps a writer is in no program's source."""
    custom = tmp_path / "custom"
    custom.mkdir()
    patch = """
        import tensorboardX.writer as writer
        before = writer.SummaryWriter.add_scalar
        writer.SummaryWriter.add_scalar = lambda *args, **options: before(*args, **options)
    """
    (custom / "sitecustomize.py").write_text(textwrap.dedent(patch), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{custom}:{Path(tracelet.__file__).parent.parent}")

    command = [sys.executable, "-m", "tracelet", "doctor", "--backend", "csv", "--timeout", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    assert "tensorboardX.writer.SummaryWriter.add_scalar is changed by sitecustomize" in done.stdout
    assert f"{custom / 'sitecustomize.py'} runs whenever Python starts" in done.stdout
