"""`import wandb` that finds the facade: here, in children, with `tracelet run --replace wandb`; and back again."""

import importlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys

import pytest
from backends import csv_store, wandb_store
from programs import run_program

import tracelet.compat.wandb as facade
from tracelet import replacing
from tracelet.backends import check_installed


@pytest.fixture
def installed():
    facade.install()
    yield
    facade.uninstall()


def test_it_is_the_same_module_under_both_names(installed):
    import wandb

    assert wandb is facade
    assert importlib.util.find_spec("wandb") is not None
    assert facade.__version__ == importlib.metadata.version("wandb") == wandb.__version__


@pytest.mark.parametrize(
    ("name", "attribute", "expected"),
    [
        ("wandb.sdk.data_types.image", "Image", facade.Image),
        ("wandb.sdk.wandb_run", "Run", facade.Run),
        ("wandb.wandb_run", "Run", facade.Run),
        ("wandb.sdk.artifacts.artifact", "Artifact", facade.Artifact),
        ("wandb.apis.public", "Api", facade.Api),
        ("wandb.plot", "line_series", facade.plot.line_series),
        ("wandb.errors", "CommError", facade.CommError),
        ("wandb.errors.term", "termwarn", facade.termwarn),
        ("wandb.sdk.lib.config_util", "ConfigError", facade.sdk.lib.config_util.ConfigError),
        ("wandb.util", "generate_id", facade.util.generate_id),
        ("wandb.env", "PROJECT", "WANDB_PROJECT"),
    ],
)
def test_deep_imports(installed, name, attribute, expected):
    assert expected is getattr(importlib.import_module(name), attribute)


def test_every_module_of_the_table_can_be_imported(installed):
    from tracelet.compat.wandb.aliases import MODULES

    for name in MODULES:
        importlib.import_module(f"wandb.{name}" if name else "wandb")


def test_telemetry_takes_anything(installed):
    from wandb.sdk.lib import telemetry

    with telemetry.context(run=None) as told:
        told.feature.some_framework = True
    assert told.feature is not None


def test_a_module_that_the_facade_lacks_is_named(installed):
    with pytest.raises(ModuleNotFoundError, match=r"'wandb\.sweeps'.*tracelet\.compat\.wandb"):
        importlib.import_module("wandb.sweeps")


def test_uninstall_brings_back_what_was_there(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "own")
    real = importlib.import_module("wandb")
    version = importlib.metadata.version("wandb")
    facade.install()
    facade.install()
    assert importlib.import_module("wandb") is facade
    facade.uninstall()
    facade.uninstall()
    assert importlib.import_module("wandb") is real
    assert (version, "own") == (importlib.metadata.version("wandb"), os.environ["PYTHONPATH"])
    assert replacing.VARIABLE not in os.environ
    assert not any(isinstance(finder, replacing.Finder) for finder in sys.meta_path)


def test_an_unknown_facade_is_an_error():
    with pytest.raises(ModuleNotFoundError):
        replacing.install("nothing")
    assert not replacing.is_replaced("nothing")
    assert replacing.VARIABLE not in os.environ


def test_the_real_package_counts_as_installed_only_if_it_is(installed, monkeypatch):
    check_installed("wandb")
    assert not str(replacing.find_installed("wandb").origin).startswith(os.path.dirname(facade.__file__))


def test_other_interpreters_that_the_program_starts(installed):
    command = [sys.executable, "-c", "import wandb; print(wandb.__name__)"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "tracelet.compat.wandb" == found.stdout.strip()
    clean = replacing.without(os.environ)
    assert replacing.SITE not in clean.get("PYTHONPATH", "")
    assert replacing.VARIABLE not in clean


_TRAIN = """
import multiprocessing
import wandb

def child(queue):
    import wandb
    queue.put(wandb.__name__)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    process.join(60)
    assert "tracelet.compat.wandb" == queue.get()
    with wandb.init(project="p", name="named", tags=["t"], config={"lr": 0.1}) as run:
        for step in range(3):
            wandb.log({"loss": step})
"""


def test_a_program_without_a_change(tmp_path):
    """The run begins at `init`, with its name; the delivery process has the real wandb."""
    (tmp_path / "train.py").write_text(_TRAIN)
    program = run_program(
        f"import runpy, sys\nsys.argv = ['tracelet', 'run', '--replace', 'wandb', '--backend', 'csv,wandb', "
        f"{str(tmp_path / 'train.py')!r}]\nrunpy.run_module('tracelet', run_name='__main__')",
        fresh=True,
        WANDB_DIR=str(tmp_path),
        TRACELET_DIR=str(tmp_path / "runs"),
    )
    assert 0 == program.returncode, program.err
    (folder,) = tmp_path.glob("runs/p/*/csv")
    content = csv_store.stored(folder)
    assert ([("loss", 0, 0.0), ("loss", 1, 1.0), ("loss", 2, 2.0)], {"lr": 0.1}, ["t"]) == (
        [point[:3] for point in content.scalars],
        content.params,
        content.tags,
    )
    run = wandb_store.only(tmp_path)
    assert ("named", ["loss", "loss", "loss"]) == (run.name, [key for row in run.rows for key in row if key == "loss"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--replace", "mlflow"], "must be one of wandb"),
        (["--replace", "wandb", "--run-id", "a"], "set the id of a run there"),
        (["--replace", "wandb", "--resume", "--run-id", "a"], "set the id of a run there"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, message):
    (tmp_path / "train.py").write_text("raise AssertionError('it ran')")
    command = [sys.executable, "-m", "tracelet", "run", *options, str(tmp_path / "train.py")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert 2 == found.returncode
    assert message in " ".join(found.stderr.split())


def test_config_of_a_backend_reaches_the_runs(tmp_path):
    (tmp_path / "train.py").write_text("import wandb\nwandb.init()\nwandb.log({'a': 1})\n")
    command = [sys.executable, "-m", "tracelet", "run", "--replace", "wandb", "--backend", "csv"]
    command += ["--config", f"dir={tmp_path / 'there'}", str(tmp_path / "train.py")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert 0 == found.returncode, found.stderr
    assert [("a", 0, 1.0)] == [point[:3] for point in csv_store.stored(tmp_path / "there").scalars]
