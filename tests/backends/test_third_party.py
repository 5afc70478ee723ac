"""A backend of somebody else, in under forty lines, sits the same exam and runs beside ours."""

import inspect
import sqlite3
from pathlib import Path

import msgspec

import tracelet
from tracelet import backends
from tracelet.backends.base import Backend
from tracelet.errors import BackendUnavailable, RecordRejected
from tracelet.records import Artifact, Histogram, Image, Params, Scalar, Text, shown_step
from tracelet.testing import BackendContract, Stored


class SqlBackend(Backend):
    """Every record as one row of one table."""

    name, accepts = "sql", (Scalar, Params, Text, Image, Histogram, Artifact)

    def open(self, run):
        self._db = sqlite3.connect(Path(run.folder, "run.sqlite"), isolation_level=None)
        self._db.execute("CREATE TABLE IF NOT EXISTS records (kind, name, step, body, payload)")

    def write(self, batch):
        for number, record in enumerate(batch):
            try:
                self._db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", self._row(record))
            except sqlite3.Error as error:
                raise BackendUnavailable(f"sql: {error}", written=number) from error
            except OSError as error:
                raise RecordRejected(f"sql: {error}", written=number) from error

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
