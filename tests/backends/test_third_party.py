"""A backend of somebody else, in under forty lines, sits the same exam and runs beside ours."""

import inspect
import sqlite3
from pathlib import Path

import msgspec
import pytest

import tracelet
from tracelet import backends
from tracelet.backends.base import Backend, write_each
from tracelet.backends.memory import MemoryBackend
from tracelet.errors import BackendUnavailable, ConfigurationError, RecordRejected
from tracelet.records import Artifact, Histogram, Image, Params, Scalar, Text, shown_step
from tracelet.runs.cleanup import remove
from tracelet.runs.summary import summaries
from tracelet.sync import waiting
from tracelet.testing import BackendContract, Stored


class SqlBackend(Backend):
    """Every record as one row of one table."""

    name, accepts = "sql", (Scalar, Params, Text, Image, Histogram, Artifact)

    def open(self, run):
        self._db = sqlite3.connect(Path(run.folder, "run.sqlite"), isolation_level=None)
        self._db.execute("CREATE TABLE IF NOT EXISTS records (kind, name, step, body, payload)")

    def write(self, batch):
        return write_each(batch, self._write)

    def _write(self, record):
        try:
            self._db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", self._row(record))
        except sqlite3.Error as error:
            raise BackendUnavailable(f"sql: {error}") from error
        except OSError as error:
            raise RecordRejected(f"sql: {error}") from error

    def close(self, status, exit_code):
        self._db.close()

    def _row(self, record):
        match record:
            case Params():
                return "params", None, None, repr(dict(record.values)), None
            case Artifact(name, files):
                body = [(f.name, Path(f.path).read_bytes().hex()) for f in files]
                return "artifact", name, None, repr(body), None
        payload = Path(record.data.path).read_bytes() if isinstance(record, Image) else None
        body = repr(msgspec.structs.astuple(record)[1:])
        return type(record).__name__, record.tag, str(shown_step(record.step)), body, payload


def rows(path, kind):
    with sqlite3.connect(path) as database:
        return database.execute("SELECT name, step, body, payload FROM records WHERE kind = ?", (kind,)).fetchall()


def told(body):
    """What `repr` wrote of plain data."""
    return eval(body, {"nan": float("nan"), "inf": float("inf"), "File": lambda **fields: None})


class TestThirdParty(BackendContract):
    unreadable = frozenset(("summary", "tags", "alerts"))  # kinds that it does not take

    def make_backend(self, tmp_path):
        return SqlBackend()

    def read_back(self, tmp_path):
        path = tmp_path / "run" / "run.sqlite"
        found = Stored(scalars=[], params={}, texts=[], images={}, histograms=[], artifacts={})
        for name, step, body, _ in rows(path, "Scalar"):
            value, _, wall_time, _ = told(body)
            found.scalars.append((name, int(step), value, wall_time))
        for _, _, body, _ in rows(path, "params"):
            found.params.update(told(body))
        found.texts = [(name, int(step), told(body)[0]) for name, step, body, _ in rows(path, "Text")]
        found.images = {(name, int(step)): payload for name, step, _, payload in rows(path, "Image")}
        found.histograms = [(name, int(step), *told(body)[:2]) for name, step, body, _ in rows(path, "Histogram")]
        for name, _, body, _ in rows(path, "artifact"):
            files = told(body)
            found.artifacts |= {name + one if name[-1] == "/" else name: bytes.fromhex(data) for one, data in files}
        return found


def installed(folder, module, source):
    """A package that brings the backend "added", as pip leaves it in `folder`."""
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    facts = folder / f"{module}-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text(f"[tracelet.backends]\nadded = {module}:Added\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('old API')", "RuntimeError: old API"),
        ("", "no attribute 'Added'"),
        ("class Added: pass", "not a subclass of tracelet.Backend"),
    ],
)
def test_a_package_that_cannot_be_loaded(tmp_path, monkeypatch, source, words):
    """It is named to whoever asks for its backend, and its past runs can be looked at and removed all the same."""
    site = tmp_path / "site"
    site.mkdir()
    installed(site, f"added_{len(source)}", source)
    monkeypatch.syspath_prepend(str(site))
    with tracelet.start_logging(backend=MemoryBackend()) as run:
        run.log_metric("loss", 1.0, 1)
    with sqlite3.connect(run.folder / "journal.db") as journal:
        journal.execute("UPDATE cursors SET backend = 'added'")

    with pytest.raises(ConfigurationError, match=rf"backend 'added' of the package 'added_\d+'.*{words}"):
        tracelet.start_logging(backend="added")
    assert [] == waiting(run.folder)
    (found,) = summaries(run.folder.parent.parent)
    assert ["added"] == [one.name for one in found.backends]
    remove(run.folder)
    assert not run.folder.exists()


def test_it_is_short():
    assert len(inspect.getsource(SqlBackend).splitlines()) < 40


def test_it_runs_by_its_name_beside_another(memory, monkeypatch):
    """Registered by the program, named in `backend=`, it has what the others have."""
    monkeypatch.setattr(backends, "_registered", {})
    tracelet.register_backend("sql", SqlBackend)
    exp = tracelet.start_logging(backend=["sql", memory])
    for step in range(100):
        exp.log_metric("loss", step / 7, step)
    exp.stop()

    assert "sql" in tracelet.known_backends()
    held = [(name, int(step)) for name, step, *_ in rows(exp.folder / "run.sqlite", "Scalar")]
    assert [("loss", step) for step in range(100)] == held == [(one.tag, one.step) for one in memory.records]
