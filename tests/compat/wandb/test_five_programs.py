"""Programs written for wandb leave the same with the facade as with the real one, in csv, MLflow and wandb's store."""

import io
import math
import sys
import textwrap

import pytest
from backends import csv_store, mlflow_store, wandb_store
from backends.store_content import StoreContent
from compat.wandb import real_store
from compat.wandb.five_programs import PROGRAMS
from PIL import Image
from programs import run_program

# MLflow keeps the infinities as the largest numbers.
_LARGEST = {("mlflow", math.inf): sys.float_info.max}
# Series whose axis is the metric `epoch` have its values as their steps.
_OVER_EPOCH = ("epoch", "val/loss", "val/other")
_FACADE = "import tracelet.compat.wandb as facade\nfacade.install()\n"


@pytest.fixture(scope="module", params=PROGRAMS)
def both(request, tmp_path_factory):
    """(name of the program, real folder, facade folder), after both have run."""
    source = PROGRAMS[request.param]
    folders = []
    for kind, beginning in (("real", ""), ("facade", _FACADE)):
        folder = tmp_path_factory.mktemp(f"{request.param}-{kind}")
        variables = {
            "HOME": folder,
            "WANDB_DIR": folder,
            "WANDB_CACHE_DIR": folder / "cache",
            "WANDB_CONFIG_DIR": folder / "config",
            "WANDB_DATA_DIR": folder / "data",
            "WANDB_MODE": "offline",
            "WANDB_SILENT": "true",
            "WANDB_CONSOLE": "off",
            "WANDB_X_DISABLE_STATS": "true",
            "WANDB__SAVE_REQUIREMENTS": "false",
            "TRACELET_BACKEND": "csv,mlflow,wandb",
            "TRACELET_DIR": folder / "runs",
            "TRACELET_COLLECT": "none",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "MPLBACKEND": "Agg",
        }
        work = folder / "work"
        work.mkdir()
        program = run_program(
            f"import os\nos.chdir({str(work)!r})\n{beginning}{textwrap.dedent(source)}",
            deadline=240,  # of seven runs, each with a process that imports two vendors
            **{name: str(value) for name, value in variables.items()},
        )
        assert 0 == program.returncode, program.err
        folders.append(folder)
    return request.param, *folders


def _all_of(folder):
    """The content of each run by id, in each of the three stores."""
    of_csv = {path.parent.name: csv_store.stored(path) for path in folder.glob("runs/*/*/csv")}
    of_mlflow = {}
    for run in mlflow_store.runs(folder / "mlflow.db"):
        of_mlflow[run.tags["tracelet.run_id"]] = mlflow_store.to_content(run)
    of_wandb = {}
    for run in wandb_store.runs(folder):
        wandb_store.add(run, of_wandb.setdefault(run.id, StoreContent()))
    return {"csv": of_csv, "mlflow": of_mlflow, "wandb": of_wandb}


@pytest.fixture(scope="module")
def pairs(both):
    """[(store, run id, real content, facade content)] of all runs of the program."""
    _, real, facade = both
    expected = real_store.by_id(real)
    found = _all_of(facade)
    for store, runs in found.items():
        assert sorted(expected) == sorted(runs), store
    return [(store, one, expected[one], runs[one]) for store, runs in found.items() for one in runs]


def test_numbers_and_steps(pairs):
    """Each point has the key, the step and the value that the real one has, and there is no other."""
    assert any(real.scalars for _, _, real, _ in pairs) or "artifacts" in {one for _, one, _, _ in pairs}
    for store, one, real, facade in pairs:
        epochs = {step: int(value) for tag, step, value, _ in real.scalars if tag == "epoch"}
        expected = sorted(
            (tag, epochs[step] if tag in _OVER_EPOCH else step, repr(_LARGEST.get((store, value), value)))
            for tag, step, value, _ in real.scalars
        )
        assert expected == sorted((tag, step, repr(value)) for tag, step, value, _ in facade.scalars), (store, one)


def test_config(pairs):
    for store, one, real, facade in pairs:
        assert real.params == facade.params, (store, one)


def test_summary(pairs):
    """Every value of the real summary. In W&B itself, an aggregate is beside the last value."""
    for store, one, real, facade in pairs:
        expected = {name: real_store.same(value) for name, value in real.summary.items()}
        found = {name: real_store.same(value) for name, value in facade.summary.items()}
        found = {name: "nan" if value == "NaN" else value for name, value in found.items()}  # in W&B a text
        assert expected == {name: found.get(name) for name in expected}, (store, one)


def test_tags(pairs):
    for store, one, real, facade in pairs:
        assert real.tags == [tag for tag in facade.tags if not tag.startswith("group=")], (store, one)


def test_texts(pairs):
    for store, one, real, facade in pairs:
        assert set(real.texts) <= set(facade.texts), (store, one)


def test_pixels(pairs):
    for store, one, real, facade in pairs:
        for key, data in real.images.items():
            expected, found = (Image.open(io.BytesIO(content)) for content in (data, facade.images[key]))
            assert (expected.mode, list(expected.getdata())) == (found.mode, list(found.getdata())), (store, one, key)


def test_histograms(pairs):
    for store, one, real, facade in pairs:
        assert sorted(real.histograms) == sorted(facade.histograms), (store, one)


def test_artifacts(pairs):
    """Every file of every artifact, with the bytes from when it was added."""
    for store, one, real, facade in pairs:
        own = {path.partition("/")[2]: data for path, data in real.artifacts.items() if "-file " not in path}
        found = facade.artifacts
        if store != "wandb":
            found = {path.partition("/")[2]: data for path, data in found.items()}
        assert own == found, (store, one)


def test_tables_and_sounds(both, pairs):
    """Cells of tables as text, also that of a chart; samples of sounds as bytes."""
    name, _, facade_folder = both
    checked = 0
    for store, _, real, _ in pairs:
        for key, data in real.artifacts.items():
            kind, _, tag = key.partition(" ")
            if store == "csv" and kind == "table-file":
                columns, rows = real_store.table_of(data)
                (path,) = facade_folder.glob(f"runs/*/*/csv/tables/{tag}.csv")
                cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
                assert [[_number(cell) for cell in row] for row in [columns, *cells]] == [
                    [_number(cell) for cell in row] for row in csv_store.rows(path)
                ]
                checked += 1
            elif store == "csv" and kind == "audio-file":
                (path,) = facade_folder.glob(f"runs/*/*/csv/media/audio/{tag}/*.wav")
                assert data == path.read_bytes()
                checked += 1
    assert checked == (3 if name == "media" else 0)


def _number(cell):
    """1.0 is 1 in wandb's JSON."""
    return cell.removesuffix(".0")
