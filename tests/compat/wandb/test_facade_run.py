"""`init`, the run object and the functions of the module."""

import importlib
import os

import pytest

import tracelet
import tracelet.compat.wandb as wandb
from tracelet.compat.wandb import opening
from tracelet.records import Alert, Artifact, Histogram, Params, Scalar, Summary, Tags, Text

# The module.


def test_the_standard_loop(points):
    run = wandb.init(project="vision", config={"lr": 0.1})
    assert wandb.run is run
    for epoch in range(3):
        wandb.log({"loss": 1 / (epoch + 1), "epoch": epoch})
    wandb.finish()
    assert wandb.run is None
    assert [(1, 0.5), (2, 1 / 3)] == [(step, value) for key, step, value in points(run) if key == "loss"][1:]
    assert "vision" == run.project


@pytest.mark.parametrize(
    "call",
    [
        lambda: wandb.log({"a": 1}),
        lambda: wandb.watch(object()),
        lambda: wandb.alert("title", "text"),
        lambda: wandb.log_artifact("file"),
        lambda: wandb.use_artifact("name:latest"),
        lambda: wandb.define_metric("a"),
        lambda: wandb.save("*"),
        lambda: wandb.config.lr,
        lambda: wandb.config["lr"],
        lambda: wandb.config.update({"lr": 1}),
        lambda: setattr(wandb.config, "lr", 1),
        lambda: wandb.summary["a"],
        lambda: wandb.mark_preempting(),
        lambda: wandb.log_code(),
    ],
)
def test_before_init(call):
    """Each says what to call first, with an error that code for wandb catches."""
    with pytest.raises(wandb.Error, match=r"wandb\.init\(\) before") as caught:
        call()
    assert isinstance(caught.value, RuntimeError)


def test_finish_before_init_does_nothing():
    wandb.finish()
    wandb.join()
    assert wandb.run is None


def test_nobody_signs_in(monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert wandb.login() is True
    assert wandb.login(key="secret", relogin=True) is True
    assert "WANDB_API_KEY" not in os.environ


@pytest.mark.parametrize("call", [wandb.sweep, wandb.agent, wandb.controller])
def test_a_sweep_says_what_to_use(call):
    with pytest.raises(NotImplementedError, match="Optuna") as caught:
        call({"method": "grid"})
    assert isinstance(caught.value, wandb.Error)


def test_after_finish_a_call_of_the_run_says_so():
    run = wandb.init()
    run.finish()
    run.finish()
    for call in (lambda: run.log({"a": 1}), lambda: run.define_metric("a"), lambda: run.alert("a")):
        with pytest.raises(wandb.UsageError, match=rf"{run.id}.* is finished"):
            call()
    for change in (
        lambda: run.config.update({"late": 1}),
        lambda: run.summary.update({"late": 1}),
        lambda: setattr(run, "tags", ("late",)),
        lambda: setattr(run, "name", "late"),
        lambda: setattr(run, "notes", "late"),
        run.mark_preempting,
    ):
        with pytest.raises(wandb.UsageError, match="finished"):
            change()
    assert 0 == run.step


def test_a_stored_reference_to_the_module_sees_the_next_run():
    log = wandb.log
    first = wandb.init()
    log({"a": 1})
    wandb.finish()
    second = wandb.init()
    log({"a": 2})
    assert (1, 1) == (first.step, second.step)
    assert first.id != second.id


# Arguments and variables.


def test_arguments_come_before_variables(monkeypatch):
    for name, value in {
        "PROJECT": "p",
        "NAME": "n",
        "TAGS": "a, b",
        "ENTITY": "e",
        "RUN_GROUP": "g",
        "NOTES": "t",
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    with wandb.init() as run:
        assert ("p", "n", ("a", "b"), "e", "g", "t") == (
            run.project,
            run.name,
            run.tags,
            run.entity,
            run.group,
            run.notes,
        )
        assert f"e/p/{run.id}" == run.path
    with wandb.init(project="own", name="mine", tags=["c"], settings=wandb.Settings(entity="f")) as run:
        assert ("own", "mine", ("c",), "f") == (run.project, run.name, run.tags, run.entity)


@pytest.mark.parametrize("tags", ["one,two", ["one", "two"], ("one", "two", "one")])
def test_tags(journal, tags):
    run = wandb.init(tags=tags)
    assert ("one", "two") == run.tags
    run.tags += ("three",)
    assert ("one", "two", "three") == run.tags
    assert [("three",)] == [one.tags for one in journal(run, Tags)]
    assert ("one", "two") == run._experiment._info.tags


def test_an_unknown_mode_or_reinit_is_refused():
    for arguments in ({"id": "a/b"}, {"mode": "onlin"}, {"reinit": "perhaps"}, {"resume": "maybe"}, {"settings": 3}):
        with pytest.raises(wandb.UsageError, match="must be"):
            wandb.init(**arguments)
    with pytest.raises(wandb.UnsupportedError, match="resume"):
        wandb.init(fork_from="id?_step=3")
    assert wandb.run is None


@pytest.mark.parametrize("variables", [{"WANDB_MODE": "disabled"}, {"WANDB_DISABLED": "true"}, {"WANDB_DISABLED": "1"}])
def test_a_disabled_run_works_and_logs_nothing(monkeypatch, tmp_path, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run = wandb.init(project="p", config={"lr": 1})
    run.log({"loss": 1.0, "image": wandb.Html("x")})
    run.log_artifact(wandb.Artifact("a", "b"))
    run.summary["best"] = 2
    assert (1, 1.0, 2, True, True) == (run.config.lr, run.summary["loss"], run.summary.best, run.disabled, bool(run.id))
    assert os.path.isdir(run.dir)
    run.finish()
    assert not list((tmp_path / "runs").rglob("journal.db"))


def test_offline_is_about_the_server_of_wandb_alone(points):
    run = wandb.init(mode="offline")
    assert run.offline
    assert not run.disabled
    run.log({"a": 1})
    assert [("a", 0, 1.0)] == points(run)


# Several runs.


def test_init_again_returns_the_run():
    run = wandb.init(config={"a": 1})
    assert run is wandb.init(project="other")
    assert run is wandb.init(reinit=False)
    assert run is wandb.init(reinit="return_previous")


@pytest.mark.parametrize("reinit", [True, "finish_previous"])
def test_reinit_finishes_the_run_before(reinit):
    first = wandb.init()
    second = wandb.init(reinit=reinit)
    assert wandb.run is second
    assert first is not second
    with pytest.raises(wandb.UsageError):
        first.log({"a": 1})


def test_runs_side_by_side(points):
    """The first one stays the current one."""
    first = wandb.init(id="first")
    second = wandb.init(id="second", reinit="create_new")
    second.log({"a": 2})
    wandb.log({"a": 1})
    assert wandb.run is first
    second.finish()
    assert wandb.run is first
    assert [("a", 0, 2.0)] == points(second)
    assert [("a", 0, 1.0)] == points(first)


def test_the_run_of_start_logging_is_used_once_and_not_ended(memory, points):
    experiment = tracelet.start_logging(backend=memory, project="ours")
    run = wandb.init(project="ignored", tags=["t"], config={"lr": 1})
    assert (experiment.run_id, "ours") == (run.id, run.project)
    run.log({"a": 1})
    run.finish()
    assert tracelet.get_active_experiment() is experiment
    assert [1.0] == [one.value for one in memory.of(Scalar)]
    assert [("t",)] == [one.tags for one in memory.of(Tags)]
    second = wandb.init()
    assert second.id != run.id
    second.log({"a": 2})
    second.finish()
    assert tracelet.get_active_experiment() is experiment
    experiment.stop()
    assert [1.0] == [one.value for one in memory.of(Scalar)]


def test_the_next_run_has_the_backends_of_start_logging(tmp_path):
    tracelet.start_logging(backend="csv", dir=tmp_path / "there")
    for number in range(2):
        with wandb.init() as run:
            run.log({"a": number})
    tracelet.stop_logging()
    assert 2 == len(list((tmp_path / "there").glob("*/*/csv/scalars.csv")))


def test_resume_continues_steps_config_and_summary(points):
    with wandb.init(id="again", config={"lr": 0.1, "model": {"layers": 2}}) as run:
        run.log({"loss": 0.5})
        run.log({"loss": 0.25})
        run.summary["best"] = 0.25
    run = wandb.init(id="again", resume="must", config={"lr": 0.2})
    assert run.resumed
    assert (2, 2) == (run.step, run.starting_step)
    assert {"lr": 0.2, "model": {"layers": 2}} == run.config.as_dict()
    assert (0.25, 0.25) == (run.summary["loss"], run.summary["best"])
    run.log({"loss": 0.1})
    assert [("loss", 0, 0.5), ("loss", 1, 0.25), ("loss", 2, 0.1)] == points(run)


def test_rows_go_on_after_those_of_the_earlier_process(points):
    """Not after the values of an axis, which are the steps of its series."""
    with wandb.init(id="again") as run:
        run.define_metric("val/*", step_metric="iteration")
        run.log({"plain": 1.0})
        run.log({"val/loss": 1.0, "iteration": 500})
    run = wandb.init(id="again", resume="allow")
    assert 1 == run.step


def test_resume_must_and_never():
    with pytest.raises(wandb.UsageError, match=r"must.*no run"):
        wandb.init(id="absent", resume="must")
    wandb.init(id="present").finish()
    with pytest.raises(wandb.UsageError, match=r"never.*exists"):
        wandb.init(id="present", resume="never")


def test_resume_auto_takes_the_last_run_that_did_not_finish():
    with pytest.raises(ValueError, match="stop"), wandb.init() as run:
        raise ValueError("stop")
    again = wandb.init(resume="auto")
    assert again.id == run.id
    again.log({"a": 1})
    again.finish()
    assert wandb.init(resume="auto").id != run.id


@pytest.mark.parametrize(("error", "status", "code"), [(None, "finished", 0), (ValueError, "failed", 1)])
def test_as_a_context_manager(error, status, code):
    def use():
        with wandb.init() as run:
            runs.append(run)
            if error is not None:
                raise error

    runs = []
    if error is None:
        use()
    else:
        with pytest.raises(error):
            use()
    from tracelet.runs.summary import summarise

    summary = summarise(runs[0]._experiment.folder)
    assert (status, code) == (summary.status, summary.exit_code)


def test_an_exit_code_of_finish():
    run = wandb.init()
    wandb.finish(exit_code=3)
    from tracelet.runs.summary import summarise

    assert "failed" == summarise(run._experiment.folder).status


def test_a_run_that_nobody_finishes_keeps_its_last_row(points):
    run = wandb.init()
    run.log({"a": 1}, step=0)
    run.log({"b": 2}, step=0, commit=False)
    run._experiment.stop()
    assert [("a", 0, 1.0), ("b", 0, 2.0)] == points(run)


# Methods of the run.


def test_names_and_notes_that_change_are_parameters(journal):
    run = wandb.init(name="before")
    run.name, run.notes = "after", "new"
    assert ("after", "new") == (run.name, run.notes)
    assert [{"run_name": "after"}, {"run_notes": "new"}] == [one.values for one in journal(run, Params)]


def test_alerts(journal):
    run = wandb.init()
    wandb.alert("low", "accuracy", wandb.AlertLevel.WARN, wait_duration=300)
    wandb.alert("low", "again", wait_duration=300)
    wandb.alert("low", "at once", "ERROR", wait_duration=0)
    with pytest.raises(ValueError, match="level"):
        run.alert("a", level="LOUD")
    with pytest.raises(wandb.Error, match="title"):
        run.alert(" ")
    found = [(one.title, one.text, one.level) for one in journal(run, Alert)]
    assert [("low", "accuracy", "warning"), ("low", "at once", "error")] == found


def test_watch_logs_gradients_at_the_steps_of_the_run(journal):
    import torch

    run = wandb.init()
    model = torch.nn.Linear(2, 1)
    wandb.watch(model, log="all", log_freq=2)
    for _ in range(4):
        model(torch.ones(1, 2)).sum().backward()
        run.log({"loss": 1.0})
    wandb.unwatch(model)
    model(torch.ones(1, 2)).sum().backward()
    found = [(one.tag, one.step) for one in journal(run, Histogram)]
    assert ("gradients/weight", 0) in found
    assert ("parameters/bias", 2) in found
    assert {0, 2} == {step for _, step in found}
    with pytest.raises(ValueError, match="log must be"):
        wandb.init().watch(model, log="weights")


def test_saved_files_and_those_in_the_folder_of_the_run(journal, tmp_path):
    run = wandb.init()
    inner = tmp_path / "work" / "inner"
    inner.mkdir(parents=True)
    (inner / "a.txt").write_text("one")
    (tmp_path / "work" / "b.txt").write_text("b")
    assert [f"{run.dir}/inner/a.txt"] == wandb.save(str(inner / "*.txt"), base_path=tmp_path / "work")
    assert [f"{run.dir}/b.txt"] == run.save("work/b.txt", base_path="work", policy="now")
    (inner / "a.txt").write_text("changed")
    (tmp_path / "work" / "b.txt").write_text("changed")
    with open(os.path.join(run.dir, "own.txt"), "w") as file:
        file.write("own")
    with pytest.raises(ValueError, match="policy"):
        run.save("work/b.txt", policy="later")
    with pytest.raises(ValueError, match="below"):
        run.save("work/b.txt", base_path=inner)
    found = [(one.name, one.files[0].size) for one in journal(run, Artifact)]
    assert [("inner/a.txt", 3), ("b.txt", 1), ("inner/a.txt", 7), ("own.txt", 3)] == found


def test_code_as_an_artifact(journal, tmp_path):
    (tmp_path / "code" / "sub").mkdir(parents=True)
    for name in ("train.py", "sub/model.py", "data.csv"):
        (tmp_path / "code" / name).write_text("1")
    run = wandb.init(project="p")
    artifact = wandb.log_code("code", exclude_fn=lambda path: "model" in path)
    assert "code" == artifact.type
    assert run.log_code("code", include_fn=lambda path, root: False) is None
    (found,) = journal(run, Artifact)
    assert ["train.py"] == [file.name for file in found.files]


def test_preempting_and_status(journal):
    run = wandb.init()
    wandb.mark_preempting()
    assert {"synced": True} == run.status()
    assert [{"preempting": True}] == [one.values for one in journal(run, Params)]


def test_values_without_a_curve_are_texts(journal):
    run = wandb.init()
    run.log({"words": "hello", "nothing": None, "list": [1, "a"], "bytes": b"raw", "object": object})
    found = {one.tag: one.text for one in journal(run, Text)}
    assert {"words": "hello", "list": '[1, "a"]', "bytes": "raw", "object": str(object)} == found


def test_a_list_of_media_has_a_name_for_each(journal):
    run = wandb.init()
    run.log({"pages": [wandb.Html("<p>1</p>"), wandb.Html("<p>2</p>")]})
    assert ["pages/0", "pages/1"] == [one.tag for one in journal(run, Text)]


def test_the_summary_is_logged_at_the_end(journal):
    run = wandb.init()
    run.log({"loss": 0.5, "html": wandb.Html("x")})
    run.log({"loss": 0.25})
    *_, last = journal(run, Summary)
    assert {"loss": 0.25} == last.values


def test_invalid_data_is_refused():
    run = wandb.init()
    for values in (None, 3, [("a", 1)]):
        with pytest.raises(TypeError, match="must be a dict"):
            run.log(values)
    with pytest.raises(TypeError, match="key must be a str"):
        run.log({1: 2})
    assert 0 == run.step


def test_no_run_is_kept_alive():
    wandb.init().finish()
    assert [] == opening.open_runs()


@pytest.mark.filterwarnings("ignore")
def test_every_name_and_argument_of_the_real_one():
    """Those of the installed release: a program may use each, if only to get a clear error."""
    import inspect

    real = importlib.import_module("wandb")
    assert [name for name in real.__all__ if not hasattr(wandb, name)] == ["ArtifactTTL"]
    methods = [name for name in dir(real.Run) if not name.startswith("_")]
    assert [] == [name for name in methods if not hasattr(wandb.Run, name)]
    for owner, own, names in (
        (real.Run, wandb.Run, methods),
        # Not `wandb.alert`: the real one stays that of the last run, also of a captured one.
        (real, wandb, ["init", "log", "finish", "watch", "define_metric", "save", "login"]),
        (real.Config, wandb.Config, ["update", "setdefaults", "update_locked"]),
    ):
        for name in names:
            if callable(getattr(owner, name)) and not inspect.isclass(getattr(owner, name)):
                expected = set(inspect.signature(getattr(owner, name)).parameters)
                found = inspect.signature(getattr(own, name)).parameters
                assert "kwargs" in found or expected - {"self"} <= set(found), name


def test_other_names_of_the_module():
    with pytest.raises(wandb.Error, match=r"wandb\.init\(\) before"):
        wandb.pin_config_keys(["lr"])
    with wandb.init(config={"lr": 1}):
        wandb.pin_config_keys(["lr"])
    assert wandb.box3d is wandb.data_types.box3d
    assert wandb.EvalTable is wandb.data_types.EvalTable
