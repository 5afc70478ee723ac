"""Define the matrix of ways in and backends: its cells, a program for each way in, and the content it logs."""

from __future__ import annotations

import importlib
import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from backends import lines_store
from backends.stores import READERS
from backends.tables import TABLE_READERS
from programs import run_program
from support import TESTS

import tracelet
from tracelet.compat.ezpz.facts import run_facts

KINDS = ("scalars", "parameters", "image", "table", "artifact")
BACKENDS = ("csv", "tensorboard", "trackio", "wandb", "mlflow", "clearml", "aim", "lines")
CHEAP = ("csv", "tensorboard", "trackio", "wandb", "lines")
"""The backends of `make test`; `make test-long` has all."""
STORES = {**READERS, "lines": lines_store.stored}
DEADLINE = 240
"""Seconds for a program, with the imports of up to seven vendors."""

SERIES = {"loss": [1 / (step + 3) for step in range(5)], "accuracy": [step / 7 for step in range(5)]}
LAST = 4
PARAMS = {"lr": 0.1, "layers": 2, "optimizer": "adam"}
PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
COLUMNS: list[Any] = ["name", "score"]
ROWS: list[list[Any]] = [["cat", 0.5], ["dog", 0.25]]
WEIGHTS = b"weights"
PROJECT = "any"


# The programs. Each is called in an empty folder, with the variables of `run`.


def _experiment(backends: Sequence[str], **arguments: Any) -> tracelet.Experiment:
    return tracelet.start_logging("matrix", PROJECT, list(backends), **arguments)


def _weights() -> Path:
    path = Path("weights.bin")
    path.write_bytes(WEIGHTS)
    return path


def _write(module: str) -> None:
    """Log scalars, parameters and an image with a SummaryWriter."""
    with importlib.import_module(module).SummaryWriter("logs") as writer:
        writer.add_hparams(PARAMS, {})
        for tag, values in SERIES.items():
            for step, value in enumerate(values):
                writer.add_scalar(tag, value, step)
        writer.add_image("sample", PIXELS, LAST, dataformats="HWC")


def _log_files(experiment: tracelet.Experiment) -> None:
    experiment.log_table("scores", ROWS, LAST, columns=COLUMNS)
    experiment.log_artifact(_weights(), "model/")


def _summary_writer(module: str, backends: Sequence[str]) -> None:
    experiment = _experiment(backends)
    _write(module)
    _log_files(experiment)  # a SummaryWriter has neither
    experiment.stop()


def _torch(backends: Sequence[str]) -> None:
    _summary_writer("torch.utils.tensorboard", backends)


def _tensorboardx(backends: Sequence[str]) -> None:
    _summary_writer("tensorboardX", backends)


def _log_with_wandb(wandb: Any, **options: Any) -> None:
    """Log everything with the real wandb or the facade."""
    with wandb.init(project=PROJECT, config=PARAMS, **options) as run:
        for step in range(LAST):
            run.log({tag: values[step] for tag, values in SERIES.items()}, step=step)
        media = {"sample": wandb.Image(PIXELS), "scores": wandb.Table(columns=COLUMNS, data=ROWS)}
        run.log({**{tag: values[LAST] for tag, values in SERIES.items()}, **media}, step=LAST)
        artifact = wandb.Artifact("model", "model")
        artifact.add_file(str(_weights()))
        run.log_artifact(artifact)


def _facade(backends: Sequence[str]) -> None:
    """Use the backends of TRACELET_BACKEND."""
    _log_with_wandb(importlib.import_module("tracelet.compat.wandb"))


def _captured(backends: Sequence[str]) -> None:
    experiment = _experiment(backends, capture=["wandb"])
    _log_with_wandb(importlib.import_module("wandb"))
    experiment.stop()


def _explicit(backends: Sequence[str]) -> None:
    experiment = _experiment(backends)
    experiment.log_params(PARAMS)
    for step in range(LAST + 1):
        experiment.log({tag: values[step] for tag, values in SERIES.items()})
    experiment.log_image("sample", PIXELS, LAST, dataformats="HWC")
    _log_files(experiment)
    experiment.stop()


def _ezpz(backends: Sequence[str]) -> None:
    """Deliver to the tracker's vendors, and to the other backends with `tracelet sync`."""
    from PIL import Image

    from tracelet.compat.ezpz import setup_tracker

    Image.fromarray(PIXELS).save("sample.png")
    vendors = [backend for backend in backends if backend in ("mlflow", "wandb")]
    tracker = setup_tracker(PROJECT, vendors, PARAMS, Path.cwd(), mode="offline")
    for step in range(LAST + 1):
        tracker.log({tag: values[step] for tag, values in SERIES.items()}, step=step)
    tracker.log_image("sample", "sample.png")
    tracker.log_table("scores", COLUMNS, ROWS)
    tracker.log_artifacts({"model": _weights()})
    tracker.finish()
    (journal,) = Path("runs").glob("*/*/journal.db")
    _command("sync", str(journal.parent), backends=[backend for backend in backends if backend not in vendors])


def _wandb_store(backends: Sequence[str]) -> None:
    Path("source").mkdir()
    _log_with_wandb(importlib.import_module("wandb"), dir="source")
    _command("import", "--from", "wandb", "source", backends=backends)


def _mlflow_store(backends: Sequence[str]) -> None:
    from mlflow import MlflowClient

    Path("source").mkdir()
    uri = f"sqlite:///{Path('source/mlflow.db').absolute()}"
    client = MlflowClient(uri)
    experiment = client.create_experiment(PROJECT, Path("source/artifacts").absolute().as_uri())
    run = client.create_run(experiment, run_name="matrix").info.run_id
    for name, param in PARAMS.items():
        client.log_param(run, name, param)
    for tag, values in SERIES.items():
        for step, value in enumerate(values):
            client.log_metric(run, tag, value, step=step)
    client.log_image(run, PIXELS, key="sample", step=LAST)
    client.log_table(run, dict(zip(COLUMNS, zip(*ROWS, strict=True), strict=True)), "scores.json")
    client.log_artifact(run, str(_weights()), "model")
    client.set_terminated(run)
    _command("import", "--from", "mlflow", uri, backends=backends)


def _aim_store(backends: Sequence[str]) -> None:
    import aim
    from PIL import Image

    Path("source").mkdir()
    run = aim.Run(repo="source", experiment=PROJECT, system_tracking_interval=None, capture_terminal_logs=False)
    run["hparams"] = PARAMS
    for tag, values in SERIES.items():
        for step, value in enumerate(values):
            run.track(value, name=tag, step=step)
    run.track(aim.Image(Image.fromarray(PIXELS)), name="sample", step=LAST)
    run.set_artifacts_uri(Path("source/artifacts").absolute().as_uri())
    run.log_artifact(str(_weights()), name="model/weights.bin", block=True)
    run.close()
    _command("import", "--from", "aim", "source", backends=backends)


def _csv_file(backends: Sequence[str]) -> None:
    rows = [f"{step},{','.join(repr(values[step]) for values in SERIES.values())}" for step in range(LAST + 1)]
    Path("series.csv").write_text("\n".join([f"step,{','.join(SERIES)}", *rows]))
    _command("import", "--from", "csv", "series.csv", "--project", PROJECT, backends=backends)


def _event_files(backends: Sequence[str]) -> None:
    _write("torch.utils.tensorboard")
    _command("import", "logs", backends=backends)


def _command(*arguments: str, backends: Sequence[str]) -> None:
    """Run a command of `tracelet` in this process, which has registered the third party's backend."""
    from tracelet.cli import app

    app([*arguments, *[f"--backend={backend}" for backend in backends]], standalone_mode=False)


# The cells.

TORCH, TENSORBOARDX, EXPLICIT, EVENT_FILES = "torch", "tensorboardX", "experiment", "event files"
FACADE, CAPTURED, EZPZ = "wandb facade", "captured wandb", "ezpz"
FROM_WANDB, FROM_MLFLOW, FROM_AIM, FROM_CSV = "wandb files", "MLflow store", "Aim repository", "CSV file"
WAYS: dict[str, Callable[[Sequence[str]], None]] = {
    TORCH: _torch,
    TENSORBOARDX: _tensorboardx,
    FACADE: _facade,
    CAPTURED: _captured,
    EXPLICIT: _explicit,
    EZPZ: _ezpz,
    EVENT_FILES: _event_files,
    FROM_WANDB: _wandb_store,
    FROM_MLFLOW: _mlflow_store,
    FROM_AIM: _aim_store,
    FROM_CSV: _csv_file,
}
TITLES = {
    TORCH: "torch `SummaryWriter`",
    TENSORBOARDX: "tensorboardX `SummaryWriter`",
    FACADE: "`tracelet.compat.wandb`",
    CAPTURED: 'wandb, `capture=["wandb"]`',
    EXPLICIT: "`Experiment`",
    EZPZ: "`tracelet.compat.ezpz`",
    EVENT_FILES: "`tracelet import`",
    FROM_WANDB: "`import --from wandb`",
    FROM_MLFLOW: "`import --from mlflow`",
    FROM_AIM: "`import --from aim`",
    FROM_CSV: "`import --from csv`",
}
"""The names of the ways in on the docs' page."""
ALL = "all"
NO_FILES = "no table, no artifact"
NO_TABLE, SCALARS_ONLY = "no table", "scalars"
ABSENT = {NO_FILES: ("table", "artifact"), NO_TABLE: ("table",), SCALARS_ONLY: KINDS[1:]}
"""The kinds that a cell excludes."""
_OTHERS = {EVENT_FILES: NO_FILES, FROM_AIM: NO_TABLE, FROM_CSV: SCALARS_ONLY}
REFUSED = "refused: wandb would get each value twice"
CELLS: dict[str, dict[str, str]] = {way: dict.fromkeys(BACKENDS, _OTHERS.get(way, ALL)) for way in WAYS}
CELLS[CAPTURED]["wandb"] = REFUSED


def carried(backends: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return way, backend and kind of each test. A kind that a cell excludes must be absent from the store."""
    pairs = [(way, backend) for way in WAYS for backend in backends if CELLS[way][backend] != REFUSED]
    return [(way, backend, kind) for way, backend in pairs for kind in KINDS]


def run(way: str, backends: Sequence[str], folder: Path) -> None:
    """Run the program of a way in, which delivers to all `backends`, with their stores in `folder`."""
    folders = {"HOME": "home", "TRACELET_DIR": "runs", "CLEARML_CACHE_DIR": "clearml", "TRACKIO_DIR": "trackio"}
    folders |= {"WANDB_DIR": "", "WANDB_CACHE_DIR": "home", "WANDB_CONFIG_DIR": "home", "WANDB_DATA_DIR": "home"}
    variables = {name: str(folder / path) for name, path in folders.items()}
    variables |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}
    variables |= {"WANDB_X_DISABLE_STATS": "true", "WANDB__SAVE_REQUIREMENTS": "false"}
    variables |= {"CLEARML_OFFLINE_MODE": "1", "MPLBACKEND": "Agg", "TRACELET_COLLECT": "none"}
    names = ",".join(backend for backend in backends if CELLS[way][backend] != REFUSED)
    variables |= {"TRACELET_BACKEND": names, "TRACELET_CONNECT_TIMEOUT": "120", "TRACELET_FLUSH_TIMEOUT": "200"}
    (folder / "home").mkdir()
    source = f"""
        import os, sys
        os.chdir({str(folder)!r})
        sys.path.insert(0, {str(TESTS)!r})
        import any_to_any
        any_to_any.main({way!r}, {names!r})
    """
    program = run_program(source, deadline=DEADLINE, fresh=False, **variables)
    assert program.returncode == 0, program.err


class Programs:
    """Run the program of each way in once, also if it fails."""

    def __init__(self, backends: Sequence[str], make_folder: Callable[[], Path]) -> None:
        self._backends, self._make_folder = backends, make_folder
        self._folders: dict[str, Path] = {}

    def folder(self, way: str) -> Path:
        """Return the folder of the stores."""
        if way not in self._folders:
            self._folders[way] = self._make_folder()
            run(way, self._backends, self._folders[way])
        return self._folders[way]


def main(way: str, backends: str) -> None:
    """Be the program of a way in."""
    tracelet.register_backend(lines_store.LinesBackend.name, lines_store.LinesBackend)
    WAYS[way](backends.split(","))


# The content.

DIFFERENCES = {
    FACADE: "in wandb and trackio, the file `weights.bin` of the artifact `model`; elsewhere `model/weights.bin`",
    CAPTURED: "the same; parameters `wandb.id` and `wandb.project` are added",
    EZPZ: "no step of image and table; facts of the process are added; in mlflow, `config.lr` and `tables/scores.csv`",
    EVENT_FILES: "event files have no tables and artifacts, float32 scalars, and integers of `add_hparams` as floats",
    FROM_WANDB: "the artifact as with `tracelet.compat.wandb`",
    FROM_MLFLOW: "parameters are texts; no step of the table",
    FROM_AIM: "Aim has no tables",
}
"""The docs' page has these: names and values that differ from those of the program."""


def expected(way: str, backend: str, kind: str) -> Any:
    """Return what `found` returns if the store has exactly what the program logged."""
    if kind in ABSENT.get(CELLS[way][backend], ()):
        return [] if kind == "table" else {}
    match kind:
        case "scalars":
            series = {tag: [_float32(value) for value in values] for tag, values in SERIES.items()}
            shown = series if way == EVENT_FILES else SERIES
            return sorted((tag, step, value) for tag, values in shown.items() for step, value in enumerate(values))
        case "parameters":
            prefix = "config." if (way, backend) == (EZPZ, "mlflow") else ""
            values = PARAMS | ({"layers": 2.0} if way == EVENT_FILES else {})
            values = {name: str(value) for name, value in values.items()} if way == FROM_MLFLOW else values
            return {prefix + name: repr(value) for name, value in values.items()}
        case "image":
            return {("sample", 0 if way == EZPZ else LAST): PIXELS.tolist()}
        case "table":
            cells = [[str(cell) for cell in row] for row in [COLUMNS, *ROWS]]
            return [("scores", 0 if way in (EZPZ, FROM_MLFLOW) else LAST, cells)]
        case "artifact":
            return _expected_artifact(way, backend)
    raise AssertionError(kind)


def _expected_artifact(way: str, backend: str) -> dict[str, bytes]:
    has_folder = way not in (FACADE, CAPTURED, FROM_WANDB) or backend not in ("wandb", "trackio")
    found = {"model/weights.bin" if has_folder else "weights.bin": WEIGHTS}
    if (way, backend) == (EZPZ, "mlflow"):
        found["tables/scores.csv"] = b"name,score\r\ncat,0.5\r\ndog,0.25\r\n"
    return found


def found(folder: Path, way: str, backend: str, kind: str) -> Any:
    """Return one kind of content in the backend's store."""
    from PIL import Image

    if kind == "table":
        return list(TABLE_READERS[backend](folder))
    content = STORES[backend](folder)
    match kind:
        case "scalars":
            return sorted((tag, step, value) for tag, step, value, _ in content.scalars)
        case "parameters":
            return {name: repr(value) for name, value in content.params.items() if not _is_added(way, name)}
        case "image":
            opened = {point: Image.open(io.BytesIO(data)) for point, data in content.images.items()}
            return {point: np.asarray(image).tolist() for point, image in opened.items()}
        case "artifact":
            return content.artifacts
    raise AssertionError(kind)


def _is_added(way: str, name: str) -> bool:
    """Return whether a parameter comes from the way in, not from the program."""
    if way == CAPTURED:
        return name in ("wandb.id", "wandb.project")
    return way == EZPZ and (name.startswith("ezpz.") or name in run_facts())


def _float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])
