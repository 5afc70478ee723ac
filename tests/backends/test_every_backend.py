"""One workload into all backends at once, read back from each store by a reader that shares nothing with its adapter.

What a vendor cannot hold stands in one table, docs/backends/fidelity.md: its cells are what these tests expect.
"""

import json
import math
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from backends import aim_server, aim_store, mlflow_server, mlflow_store
from backends.stores import READERS
from support import REPOSITORY, TESTS

from tracelet.records import (
    KINDS,
    Alert,
    Artifact,
    Histogram,
    Image,
    Params,
    Record,
    Scalar,
    Summary,
    Tags,
    Text,
    kind,
    shown_step,
)

PAGE = REPOSITORY / "docs" / "backends" / "fidelity.md"
DEADLINE = 600

# The first test of a module waits for the whole workload, seven vendors in one process.
pytestmark = pytest.mark.timeout(2 * DEADLINE)

PROGRAM = """
    import json, pathlib, sys
    tests, backends, config = sys.argv[1], sys.argv[2].split(","), json.loads(sys.argv[3])
    sys.path.insert(0, tests)
    import msgspec
    import tracelet
    from backends.workload import log_everything

    folder = pathlib.Path.cwd()
    experiment = tracelet.start_logging(
        "all kinds", "fidelity", ["memory", *backends], config=config, flush_timeout=400, connect_timeout=120
    )
    said = log_everything(experiment, folder)
    experiment.stop()
    stats = {name: msgspec.to_builtins(one) for name, one in experiment.stats().backends.items()}
    (folder / "said.json").write_text(json.dumps([said, stats]))
    (folder / "truth.bin").write_bytes(msgspec.msgpack.encode(experiment.get_backend("memory").records))
"""

BACKENDS = list(READERS)
PLACES = [*BACKENDS, "mlflow server", "aim server"]


class Told:
    """What a finished program said, as the backend in memory took it, and what the other stores hold of it."""

    def __init__(self, folder, readers):
        self.folder, self._readers = folder, readers
        self.said, self.stats = json.loads((folder / "said.json").read_text())
        self.records = msgspec.msgpack.decode((folder / "truth.bin").read_bytes(), type=list[Record])
        self._stored = {}

    def of(self, which):
        return [record for record in self.records if isinstance(record, which)]

    def stored(self, backend):
        """A store in neutral words, read once."""
        if backend not in self._stored:
            self._stored[backend] = self._readers[backend](self.folder)
        return self._stored[backend]


def run(folder, readers, config):
    """The workload in a process of its own, with nothing around it but `folder`."""
    foreign = ("TRACELET_", "WANDB_", "MLFLOW_", "CLEARML_", "AIM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    (folder / "home").mkdir()
    ours = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(folder / "home"))
    ours |= {"TRACELET_DIR": str(folder / "runs"), "MPLBACKEND": "Agg", "MPLCONFIGDIR": str(folder / "home")}
    ours |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(folder)}
    ours |= {"WANDB__SAVE_REQUIREMENTS": "false"}
    ours |= {"CLEARML_OFFLINE_MODE": "1", "CLEARML_CACHE_DIR": str(folder / "clearml")}
    ours |= {"MLFLOW_DISABLE_TELEMETRY": "true", "TRACKIO_DIR": str(folder / "trackio")}
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(TESTS), ",".join(readers), json.dumps(config)]
    done = subprocess.run(
        command, cwd=folder, env=kept | ours, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert 0 == done.returncode, done.stderr
    return Told(folder, readers)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The workload, said once to all backends together."""
    return run(tmp_path_factory.mktemp("local"), READERS, {})


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The same, to a real MLflow server and a real Aim server together."""
    from aim.sdk.repo import Repo
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = tmp_path_factory.mktemp("served")
    template = tmp_path_factory.mktemp("template") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{template}", str(folder)).engine.dispose()
    Repo(str(folder), init=True).close()
    mlflow, aim = mlflow_server.Server(folder, template), aim_server.Server(folder)
    try:
        mlflow.start()
        readers = {
            "mlflow": lambda _: mlflow_store.to_content(mlflow_store.only(mlflow.database, mlflow.artifacts)),
            "aim": lambda _: aim_store.stored(aim.repo),
        }
        yield run(folder, readers, {"mlflow": {"backend_url": mlflow.url}, "aim": {"backend_url": aim.url}})
    finally:
        mlflow.kill()
        aim.stop()


@pytest.fixture(params=PLACES)
def place(request):
    """Each store: its backend's name, and what the program said."""
    name, _, server = request.param.partition(" ")
    return name, request.getfixturevalue("served" if server else "local")


# The table of docs/backends/fidelity.md.


def fidelity():
    """Row -> backend -> cell."""
    lines = [line.strip("|").split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    (_, *names), _, *rows = [[cell.strip() for cell in line] for line in lines]
    return {row: dict(zip(names, cells, strict=True)) for row, *cells in rows}


CELLS = fidelity()
VALUES = {
    "exact": lambda value: value,
    "infinities as ±1.798e308, -0.0 as 0.0": lambda value: (
        math.copysign(sys.float_info.max, value) if math.isinf(value) else value + 0.0
    ),
}
WALL_TIMES = {"exact": 0.0, "to the millisecond": 0.0005, "to the microsecond": 1e-6, "within a second": 1.0}
ORDERS = {
    "as said": lambda points: points,
    "by wall time": lambda points: sorted(points, key=lambda point: (point[2], point)),
    "by step": lambda points: sorted(points, key=lambda point: (point[0], point)),
}
PARAMS = {
    "exact": lambda value: value,
    "exact, NaN as text": lambda value: "NaN" if value != value else value,
    "exact, NaN and infinities as text": lambda value: (
        json.dumps(value) if value != value or value in (math.inf, -math.inf) else value
    ),
}


def test_the_table_has_a_column_for_each_backend():
    assert all(set(BACKENDS) == set(cells) for cells in CELLS.values())


# Memory against the program's own words, then each store against memory.


def test_memory_has_what_the_program_said(local):
    """Every point that the program counted, and every kind that all backends take."""
    points = [(one.tag, shown_step(one.step), repr(one.value), one.wall_time) for one in local.of(Scalar)]
    assert Counter((tag, step, repr(value), time) for tag, step, value, time in local.said) <= Counter(points)
    assert {kind(which) for which in KINDS} - {"definition"} == {kind(record) for record in local.records}


def test_every_record_is_delivered(place):
    """None is refused, none is filtered, none waits."""
    backend, told = place
    stats = told.stats[backend]
    assert (len(told.records), 0, 0, 0, 0) == tuple(
        stats[name] for name in ("delivered", "pending", "rejected", "filtered", "dropped")
    ), stats


def test_every_point_is_in_the_store(place):
    """Series by series: steps, values to the bit, wall times, order."""
    backend, told = place
    shown, order = VALUES[CELLS["Scalar values"][backend]], ORDERS[CELLS["Order of a series"][backend]]
    assert "exact" == CELLS["Steps"][backend] == CELLS["Names"][backend]
    expected = series((one.tag, shown_step(one.step), shown(one.value), one.wall_time) for one in told.of(Scalar))
    found = series(told.stored(backend).scalars)
    assert sorted(expected) == sorted(found)
    error = WALL_TIMES[CELLS["Wall times"][backend]]
    for tag, points in expected.items():
        mine, theirs = order(points), order(found[tag])
        assert [point[:2] for point in mine] == [point[:2] for point in theirs], tag
        assert all(abs(one[2] - other[2]) <= error for one, other in zip(mine, theirs, strict=True)), tag


def series(points):
    """Tag -> its (step, value, wall time); values by their text: NaN equals itself, and -0.0 is not 0.0."""
    found = {}
    for tag, step, value, wall_time in points:
        found.setdefault(tag, []).append((step, repr(value), wall_time))
    return found


def test_every_histogram_is_in_the_store(place):
    """Buckets and counts as TensorBoard has them, also where there are more than the 512 that wandb draws."""
    backend, told = place
    assert "exact" == CELLS["Histogram buckets"][backend]
    expected = [(one.tag, shown_step(one.step), one.limits, one.counts) for one in told.of(Histogram)]
    assert max(len(limits) for _, _, limits, _ in expected) > 512
    assert sorted(expected) == sorted(told.stored(backend).histograms)


def test_every_image_is_in_the_store(place):
    """Byte for byte, and so pixel for pixel."""
    backend, told = place
    assert "exact" == CELLS["Images"][backend]
    expected = {(one.tag, shown_step(one.step)): Path(one.data.path).read_bytes() for one in told.of(Image)}
    assert expected == told.stored(backend).images


def test_every_text_is_in_the_store(place):
    backend, told = place
    assert "exact" == CELLS["Texts"][backend]
    expected = [(one.tag, shown_step(one.step), one.text) for one in told.of(Text)]
    assert sorted(expected) == sorted(told.stored(backend).texts)


def test_every_param_is_in_the_store(place):
    """Merged, the later wins; types, lists, None and 20,000 characters too."""
    backend, told = place
    shown, expected = PARAMS[CELLS["Parameters"][backend]], {}
    for one in told.of(Params):
        expected.update({name: shown(value) for name, value in one.values.items()})
    found = told.stored(backend).params
    assert {name: repr(value) for name, value in expected.items()} == {name: repr(found[name]) for name in found}


def test_every_artifact_is_in_the_store(place):
    """Under the path it was given, also where two paths differ in a sign that a vendor refuses."""
    backend, told = place
    assert "exact" == CELLS["Artifacts"][backend]
    expected = {}
    for one in told.of(Artifact):
        folder = one.name if one.name.endswith("/") else ""
        expected.update({(folder + f.name) if folder else one.name: Path(f.path).read_bytes() for f in one.files})
    assert expected == told.stored(backend).artifacts


def test_every_final_figure_is_in_the_store(place):
    """The last of each, of its type; a vendor may have figures of its own beside them."""
    backend, told = place
    shown, expected = PARAMS[CELLS["Summary"][backend]], {}
    for one in told.of(Summary):
        expected.update({name: shown(value) for name, value in one.values.items()})
    found = told.stored(backend).summary
    assert {name: repr(value) for name, value in expected.items()} == {name: repr(found[name]) for name in expected}


def test_every_tag_is_in_the_store(place):
    """Once; a vendor may have tags of its own beside them."""
    backend, told = place
    assert "exact" == CELLS["Tags"][backend]
    expected = {tag for one in told.of(Tags) for tag in one.tags}
    assert sorted(expected) == sorted(tag for tag in told.stored(backend).tags if tag in expected)


def test_every_alert_is_in_the_store(place):
    """In the order of the program, each with its words and level."""
    backend, told = place
    assert "exact" == CELLS["Alerts"][backend]
    expected = [(one.title, one.text, one.level) for one in told.of(Alert)]
    assert expected == told.stored(backend).alerts


def test_every_other_kind_is_in_the_store(place):
    """As often as it was said."""
    backend, told = place
    assert "in full" == CELLS["Every other kind"][backend]
    counts = told.stored(backend).counts
    told_of = Counter(kind(record) for record in told.records)
    compared = {"scalar", "params", "text", "image", "histogram", "artifact", "summary", "tags", "alert"}
    other = set(told_of) - compared
    assert {one: told_of[one] for one in other} == {one: counts[one] for one in other}
