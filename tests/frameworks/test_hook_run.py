"""What the hooks of all frameworks have in common, and what importing one brings along."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from programs import run_program

import tracelet
from tracelet import integrations
from tracelet.integrations.hook import HookRun

FOLDER = Path(integrations.__file__).parent
HOOKS = ("lightning", "transformers", "accelerate")


def test_the_folder_imports_no_framework():
    """Nor does tracelet import the folder."""
    program = f"""
        import sys, tracelet
        assert not [name for name in sys.modules if name.startswith("tracelet.integrations")]
        import tracelet.integrations, tracelet.integrations.hook
        assert not set(sys.modules) & {{"torch", "tensorboard", *{HOOKS}}}
    """
    assert 0 == (done := run_program(program, fresh=True)).returncode, done.err


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_imports_no_other(hook):
    """It has its own framework alone, and of its siblings what all have in common."""
    packages = {"lightning": {"lightning", "lightning_utilities"}}.get(hook, {hook})
    names = set()
    for node in ast.walk(ast.parse((FOLDER / f"{hook}.py").read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=imported):
                names |= {one.name for one in imported}
            case ast.ImportFrom(module=module):
                names.add(module)
    ours = {name for name in names if name.startswith("tracelet.integrations")}
    others = {name.partition(".")[0] for name in names} - {"tracelet"} - set(sys.stdlib_module_names)
    assert ({"tracelet.integrations.hook"}, packages) == (ours, others)


def test_the_logger_takes_the_package_that_the_program_uses():
    """Where several are installed, none is imported besides."""
    program = """
        import sys, lightning_fabric, tracelet.integrations.lightning as ours
        assert issubclass(ours.TraceletLogger, lightning_fabric.loggers.Logger)
        assert not {"lightning", "pytorch_lightning"} & set(sys.modules)
    """
    assert 0 == (done := run_program(program, deadline=240, fresh=True)).returncode, done.err


def test_an_unknown_argument_is_refused_where_it_is_given():
    """Not hours later, when the training begins."""
    with pytest.raises(TypeError, match="projct"):
        HookRun("hook", {"projct": "lines"})


def test_a_disabled_run_stays_disabled():
    """mode="disabled" does nothing at all, and does so once."""
    run = HookRun("hook", {"mode": "disabled"})
    assert run.experiment is run.experiment
    run.log({"loss": 0.1}, 1)
    run.end()
    assert tracelet.get_active_experiment() is None


def test_arguments_that_are_not_used_are_said_once(caplog):
    """A run is active already."""
    with caplog.at_level("WARNING", "tracelet"), tracelet.start_logging(mode="offline") as experiment:
        run = HookRun("TheHook", {"project": "lines"})
        assert run.experiment is run.experiment is experiment
        assert HookRun("Quiet", {}).experiment is experiment
    said = [one.getMessage() for one in caplog.records if "TheHook" in one.getMessage() or "Quiet" in one.getMessage()]
    assert [f"tracelet: TheHook: run {experiment.run_id} is already active; the hook ignores its own arguments"] == said


def test_a_run_that_was_stopped_goes_on_wherever_the_program_is_now(tmp_path, monkeypatch):
    """Run folders are below the working directory unless told otherwise, and programs change it."""
    monkeypatch.delenv("TRACELET_DIR")
    run = HookRun("hook", {"project": "lines", "mode": "offline"})
    folder = run.experiment.folder
    tracelet.stop_logging()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run.log({"loss": 0.1}, 1)
    assert folder == run.experiment.folder
    assert run.run_id == folder.name


def test_leave_begins_another():
    run = HookRun("hook", {"mode": "offline"})
    first = run.experiment.run_id
    run.leave()
    assert first != run.experiment.run_id


def test_what_cannot_be_logged_is_left_out_and_said_once(experiment, records, caplog):
    """A name that is no str, of a number and of a text; a step that is a mean is cut, as TensorBoard does."""
    run = HookRun("TheHook", {})
    for _ in range(2):
        run.log({2: "text", 3: 0.5, "loss": 0.1, "note": "a text"}, 1.5)
    assert [("loss", 1), ("note", 1)] * 2 == [(one.tag, one.step) for one in records()]
    assert 2 == caplog.text.count("TheHook: a name must be a str")


@pytest.mark.parametrize("value", [np.float32, torch.Tensor, torch.empty(2, device="meta")], ids=str)
def test_no_parameter_ends_a_training(value, experiment, records):
    HookRun("hook", {}).experiment.log_params({"value": value})
    assert [{"value": str(value)}] == [one.values for one in records()]
