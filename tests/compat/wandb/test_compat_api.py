"""The reading API of the facade: runs, their history and their files come from local journals, whole and exact."""

import contextlib
import math
import os
from pathlib import Path

import pytest
import wandb

import tracelet
from tracelet.compat.wandb import artifacts
from tracelet.compat.wandb.api import Api
from tracelet.compat.wandb.api_runs import Run
from tracelet.compat.wandb.errors import CommError, UnsupportedError
from tracelet.journal.store import Journal
from tracelet.records import RunInfo, Scalar


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def base(tmp_path):
    return tmp_path / "runs"


@contextlib.contextmanager
def run(**kwargs):
    """Start a run of project `p` without backends."""
    with tracelet.start_logging(**{"project": "p", "backend": [], **kwargs}) as experiment:
        yield experiment


# One run.


def test_the_description_of_a_run():
    with run(name="first", run_id="r1", tags=["a"], notes="why", group="g") as experiment:
        experiment.add_tags("b")
        experiment._orchestrator.annotate("job_type", "train")
    found = Api().run("r1")
    assert ("r1", "first", "p", "local") == (found.id, found.name, found.project, found.entity)
    assert (["a", "b"], "why", "g", "train") == (found.tags, found.notes, found.group, found.job_type)
    assert ["local", "p", "r1"] == found.path
    assert experiment.folder.as_uri() == found.url


def test_a_run_without_name_and_project():
    """It has its id as name, and wandb's name for no project."""
    with run(project=None) as experiment:
        pass
    found = Api().run(experiment.run_id)
    assert (experiment.run_id, "uncategorized", None) == (found.name, found.project, found.job_type)


def test_config_is_nested_again():
    with run(run_id="r1") as experiment:
        experiment.log_params({"lr": 0.1, "model": {"layers": [1, 2], "opt": {"name": "adam"}}, "none": None})
        experiment.log_params({"lr": 0.2})
    expected = {"lr": 0.2, "model": {"layers": [1, 2], "opt": {"name": "adam"}}, "none": None}
    assert expected == Api().run("r1").config


def test_a_name_that_is_a_value_and_a_parent():
    """Neither is lost: the dotted name stays as it is."""
    with run(run_id="r1") as experiment:
        experiment.log_params({"opt": "adam"})
        experiment.log_params({"opt.lr": 0.1})
    assert {"opt": "adam", "opt.lr": 0.1} == Api().run("r1").config


def test_the_summary():
    """It has the last value of each series and the summary metrics, which replace them."""
    with run(run_id="r1") as experiment:
        for step in range(3):
            experiment.log_metrics({"train/loss": 1.0 / (step + 1), "acc": float(step)}, step=step)
        experiment.log_metric("outer.inner", 5.0, step=2)
        experiment.log_text("note", "last", step=2)
        experiment.summary.update({"acc": 7.5, "best": {"acc": 2}})
    summary = Api().run("r1").summary
    assert (1 / 3, 7.5, "last", 2) == (summary["train/loss"], summary["acc"], summary["note"], summary["_step"])
    assert {"acc": 2} == summary["best"] == summary._json_dict["best"]
    assert (2, {"inner": 5.0}, 5.0) == (summary.get("best.acc"), summary["outer"], summary["outer.inner"])
    assert (None, "default") == (summary.get("missing"), summary.get("missing", "default"))
    with pytest.raises(KeyError):
        summary["missing"]
    with pytest.raises(UnsupportedError):
        summary.update({"acc": 1})


@pytest.mark.parametrize(("status", "expected"), [("finished", "finished"), ("failed", "failed"), ("killed", "killed")])
def test_the_state_of_an_ended_run(status, expected):
    experiment = tracelet.start_logging(project="p", run_id="r1", backend=[])
    assert "running" == Api().run("r1").state
    experiment.stop(status=status, exit_code=0 if status == "finished" else 1)
    assert expected == Api().run("r1").state


def test_a_killed_process_crashed(base):
    """It could not record its end."""
    child = os.fork()
    if child == 0:  # pragma: no cover
        experiment = tracelet.start_logging(project="p", run_id="r1", backend=[])
        experiment.log_metric("loss", 1.0, step=0)
        experiment.flush(10)
        os._exit(9)
    os.waitpid(child, 0)
    assert "crashed" == Api().run("r1").state
    assert [1.0] == [row["loss"] for row in Api().run("r1").scan_history()]


@pytest.mark.parametrize("path", ["r1", "p/r1", "local/p/r1", "/p/r1", "team/p/r1", "https://host/team/p/runs/r1"])
def test_a_run_is_found_by_its_path(path):
    with run(run_id="r1"):
        pass
    assert "r1" == Api().run(path).id


@pytest.mark.parametrize("path", ["r2", "q/r1", ""])
def test_a_run_that_does_not_exist(path):
    with run(run_id="r1"):
        pass
    with pytest.raises(CommError):
        Api().run(path)


# History.


def values(rows):
    """Rows without their times."""
    return [{key: value for key, value in row.items() if key not in ("_timestamp", "_runtime")} for row in rows]


def test_each_step_is_a_row():
    with run(run_id="r1") as experiment:
        experiment.log_metrics({"loss": 0.5, "acc": 1.0}, step=0)
        experiment.log_metrics({"loss": math.inf}, step=1)
        experiment.log_text("note", "text", step=1)
        experiment.log_metric("loss", 0.25, step=10)
    rows = list(Api().run("r1").scan_history())
    assert [
        {"_step": 0, "loss": 0.5, "acc": 1.0},
        {"_step": 1, "loss": math.inf, "note": "text"},
        {"_step": 10, "loss": 0.25},
    ] == values(rows)
    assert all(0 <= row["_runtime"] < 60 and row["_timestamp"] > 1e9 for row in rows)


def test_nan_stays_nan():
    with run(run_id="r1") as experiment:
        experiment.log_metric("loss", math.nan, step=0)
    (row,) = Api().run("r1").scan_history()
    assert math.isnan(row["loss"])


def test_nothing_is_sampled():
    """Every row comes back exactly, also beyond the 500 of `history`, and each iteration starts anew."""
    with run(run_id="r1") as experiment:
        for step in range(2500):
            experiment.log_metric("loss", step / 7, step=step)
    scan = Api().run("r1").scan_history(page_size=10)
    expected = [{"_step": step, "loss": step / 7} for step in range(2500)]
    assert expected == values(scan) == values(scan)
    assert {"_step": 0, "loss": 0.0} == values([next(scan)])[0]
    assert {"_step": 1, "loss": 1 / 7} == values([next(scan)])[0]


def test_series_that_log_the_same_steps_one_after_the_other():
    """Their values are in one row, and the rows are in the order in which their steps were logged first."""
    with run(run_id="r1") as experiment:
        for step in (3, 1, 2):
            experiment.log_metric("train", float(step), step=step)
        for step in (1, 2, 3):
            experiment.log_metric("val", step * 10.0, step=step)
    expected = [{"_step": step, "train": float(step), "val": step * 10.0} for step in (3, 1, 2)]
    assert expected == values(Api().run("r1").scan_history())


def test_a_repeated_step_loses_nothing():
    """Each value of a series has a row, since its step may be missing or start again."""
    with run(run_id="r1") as experiment:
        for value in (1.0, 2.0, 3.0):
            experiment.log_metric("loss", value)
    assert [1.0, 2.0, 3.0] == [row["loss"] for row in Api().run("r1").scan_history()]


def test_memory_does_not_grow_with_the_run():
    """A scan reads one batch of the journal at a time, and has at most 1000 rows at once."""
    import tracemalloc

    with run(run_id="r1") as experiment:
        for step in range(40_000):
            experiment._submit(Scalar("loss", float(step), step, 1.0))
    scan = iter(Api().run("r1").scan_history())
    next(scan)
    tracemalloc.start()
    try:
        assert 39_999 == sum(1 for _ in scan)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_keys_and_limits():
    """`keys` selects the rows that have all of them; `max_step` is excluded, as in wandb."""
    with run(run_id="r1") as experiment:
        for step in range(6):
            experiment.log_metric("a", float(step), step=step)
            if step % 2 == 0:
                experiment.log_metric("b", -float(step), step=step)
    found = Api().run("r1")
    assert [{"a": 0.0, "b": 0.0}, {"a": 2.0, "b": -2.0}, {"a": 4.0, "b": -4.0}] == list(found.scan_history(["a", "b"]))
    assert [2, 3] == [row["_step"] for row in found.scan_history(min_step=2, max_step=4)]
    assert 5 == found.lastHistoryStep


def test_history_is_a_sample():
    """At most `samples` rows, evenly spread, with the first and the last: as a list or as a DataFrame."""
    with run(run_id="r1") as experiment:
        for step in range(1200):
            experiment.log_metric("loss", float(step), step=step)
    found = Api().run("r1")
    rows = found.history(samples=50, pandas=False)
    assert 25 <= len(rows) <= 50
    assert (0, 1199) == (rows[0]["_step"], rows[-1]["_step"])
    frame = found.history(samples=5000, keys=["loss"])
    assert ["_step", "loss"] == list(frame.columns)
    assert [float(step) for step in range(1200)] == frame["loss"].tolist()
    assert [] == found.history(keys=["missing"], pandas=False)


def test_system_metrics_have_a_stream_of_their_own():
    with run(run_id="r1") as experiment:
        experiment._submit(Scalar("system/cpu", 50.0, 0, 1.0))
        experiment.log_metric("loss", 1.0, step=0)
    found = Api().run("r1")
    assert [{"_step": 0, "loss": 1.0}] == values(found.history(pandas=False))
    assert [{"_step": 0, "cpu": 50.0}] == values(found.history(pandas=False, stream="system"))
    assert {"system.cpu": 50.0} == found.system_metrics


def test_media_are_described():
    with run(run_id="r1") as experiment:
        experiment.log_table("t", [[1, 2]], step=0, columns=["a", "b"])
        experiment.log_histogram("h", [1.0, 2.0, 3.0], step=0)
    (row,) = Api().run("r1").scan_history()
    assert ("table-file", "histogram") == (row["t"]["_type"], row["h"]["_type"])
    assert 3 == sum(row["h"]["values"])


def test_rows_of_all_ranks():
    """The values of a step that the ranks of a shared run log are in one row."""
    with run(run_id="r1") as experiment:
        experiment._submit(Scalar("loss", 1.0, 0, 10.0))
        experiment._submit(Scalar("loss", 2.0, 1, 20.0))
    rank = experiment.folder / "ranks" / "rank-1"
    journal = Journal(rank)
    journal.put_info(RunInfo(run_id="r1", project="p", name=None, folder=str(rank), label="rank-1", prefix="rank-1/"))
    journal.append([Scalar("rank-1/loss", 3.0, 0, 11.0), Scalar("rank-1/loss", 4.0, 1, 21.0)])
    journal.close()
    found = Api().run("r1")
    expected = [{"_step": 0, "loss": 1.0, "rank-1/loss": 3.0}, {"_step": 1, "loss": 2.0, "rank-1/loss": 4.0}]
    assert expected == values(found.scan_history())
    assert 4.0 == found.summary["rank-1/loss"]


def test_a_live_run_is_read():
    """`load(force=True)` reads what was committed since."""
    with run(run_id="r1") as experiment:
        experiment.log_metric("loss", 1.0, step=0)
        experiment.flush()
        found = Api().run("r1")
        assert 1.0 == found.summary["loss"]
        experiment.log_metric("loss", 2.0, step=1)
        experiment.flush()
        assert 1.0 == found.summary["loss"]
        found.load(force=True)
        assert 2.0 == found.summary["loss"]


# Files.


@pytest.fixture
def saved():
    """A run that has saved `weights.txt` twice, and a folder."""
    Path("out/deep").mkdir(parents=True)
    Path("out/deep/log.txt").write_text("log")
    Path("weights.txt").write_text("old")
    with run(run_id="r1") as experiment:
        experiment.log_artifact("weights.txt")
        Path("weights.txt").write_text("new")
        experiment.log_artifact("weights.txt")
        experiment.log_artifact("weights.txt", "models/")
        experiment.log_artifact("out")
    return Api().run("r1")


def test_files_have_their_last_content(saved):
    assert ["weights.txt", "models/weights.txt", "out/deep/log.txt"] == [file.name for file in saved.files()]
    assert ["weights.txt", "models/weights.txt"] == [file.name for file in saved.files(pattern="%weights.txt")]
    file = saved.file("weights.txt")
    assert 3 == file.size
    with file.download("copy") as opened:
        assert "new" == opened.read()
    with pytest.raises(CommError, match="missing"):
        saved.file("missing")


def test_an_existing_file_is_not_overwritten_by_accident(saved):
    Path("weights.txt").write_text("mine")
    file = saved.file("weights.txt")
    with pytest.raises(ValueError, match="replace"):
        file.download()
    with file.download(exist_ok=True) as opened:
        assert "mine" == opened.read()
    with file.download(replace=True) as opened:
        assert "new" == opened.read()


def test_restore(saved, base):
    """An existing file is returned as it is, unless it is to be replaced."""
    with artifacts.restore("models/weights.txt", "p/r1", base=base) as opened:
        assert ("new", Path("models/weights.txt").absolute()) == (opened.read(), Path(opened.name))
    Path("models/weights.txt").write_text("mine")
    with artifacts.restore("models/weights.txt", "p/r1", base=base) as opened:
        assert "mine" == opened.read()
    with artifacts.restore("models/weights.txt", "p/r1", replace=True, root="other", base=base) as opened:
        assert "new" == opened.read()
    with pytest.raises(ValueError, match="missing"):
        artifacts.restore("missing", "r1", base=base)
    with pytest.raises(CommError, match="r2"):
        artifacts.restore("weights.pt", "r2", base=base)
    with pytest.raises(ValueError, match="run_path"):
        artifacts.restore("missing", base=base)
    with pytest.raises(ValueError, match="run_path"):
        wandb.restore("missing")


# Several runs.


@pytest.fixture
def runs():
    """Three runs of project `p`, and one of `q`."""
    for number, (lr, opt, loss) in enumerate([(0.1, "adam", 3.0), (0.01, "sgd", 1.0), (0.5, "adam", 2.0)]):
        with run(run_id=f"r{number}", name=f"run {number}", tags=[opt, "all"], group=f"g{number % 2}") as experiment:
            experiment.log_params({"lr": lr, "opt": {"name": opt}, "flag": number == 0})
            experiment.log_metric("loss", loss, step=number)
            if number == 1:
                experiment.summary["best.acc"] = 0.9
    with run(project="q", run_id="other"):
        pass


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (None, [0, 1, 2]),
        ({"config.lr": 0.1}, [0]),
        ({"config.lr.value": 0.1}, [0]),
        ({"config.opt.name": "adam"}, [0, 2]),
        ({"config.lr": {"$gt": 0.05, "$lt": 0.3}}, [0]),
        ({"config.lr": {"$gte": 0.1}}, [0, 2]),
        ({"config.lr": {"$lte": 0.1}}, [0, 1]),
        ({"config.lr": {"$ne": 0.1}}, [1, 2]),
        ({"config.lr": {"$in": [0.1, 0.5]}}, [0, 2]),
        ({"config.lr": {"$nin": [0.1, 0.5]}}, [1]),
        ({"config.flag": True}, [0]),
        ({"config.flag": 1}, []),
        ({"config.missing": {"$exists": False}}, [0, 1, 2]),
        ({"config.missing": {"$gt": 0}}, []),
        ({"config.opt.name": {"$gt": 1}}, []),
        ({"config.opt.name": {"$regex": "^ad"}}, [0, 2]),
        ({"config.lr": {"$not": {"$gt": 0.05}}}, [1]),
        ({"summary_metrics.loss": {"$lt": 2.5}}, [1, 2]),
        ({"summary_metrics.best.acc": 0.9}, [1]),
        ({"summary_metrics.best.acc": {"$exists": True}}, [1]),
        ({"display_name": "run 2"}, [2]),
        ({"name": "r2"}, [2]),
        ({"group": "g0", "tags": "adam"}, [0, 2]),
        ({"tags": {"$in": ["sgd", "other"]}}, [1]),
        ({"tags": {"$nin": ["sgd"]}}, [0, 2]),
        ({"state": "finished"}, [0, 1, 2]),
        ({"$or": [{"config.lr": 0.1}, {"group": "g1"}]}, [0, 1]),
        ({"$and": [{"config.opt.name": "adam"}, {"config.lr": {"$gt": 0.2}}]}, [2]),
        ({"$not": {"config.opt.name": "adam"}}, [1]),
        ({"jobType": "eval"}, []),
    ],
)
def test_filters(filters, expected, runs):
    assert [f"r{number}" for number in expected] == [found.id for found in Api().runs("p", filters)]


@pytest.mark.parametrize(
    "filters", [{"config.lr": {"$where": "1"}}, {"$text": {}}, {"$or": [{"x": 1}]}, {"sweep": "a"}]
)
def test_unknown_filters_are_named(filters, runs):
    """At the call, before any run is read."""
    name = {"config.lr": r"\$where", "$text": r"\$text", "$or": "'x'", "sweep": "'sweep'"}[next(iter(filters))]
    with pytest.raises(UnsupportedError, match=name):
        Api().runs("p", filters)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("+created_at", [0, 1, 2]),
        ("-created_at", [2, 1, 0]),
        ("config.lr", [1, 0, 2]),
        ("-config.lr", [2, 0, 1]),
        ("+summary_metrics.loss", [1, 2, 0]),
        ("-summary_metrics.best.acc", [1]),
    ],
)
def test_order(order, expected, runs):
    found = [run.id for run in Api().runs("p", order=order)]
    assert [f"r{number}" for number in expected] == found[: len(expected)]
    with pytest.raises(UnsupportedError, match="unknown"):
        Api().runs("p", order="+unknown")


def test_a_sequence_of_runs(runs):
    """It has a length, and can be indexed, sliced and iterated."""
    found = Api().runs("team/p")
    assert (3, "r0", "r2") == (len(found), found[0].id, found[-1].id)
    assert ["r1", "r2"] == [run.id for run in found[1:]]
    assert isinstance(found[0], Run)
    assert ["r0", "r1", "r2", "other"] == [run.id for run in Api().runs()]
    assert ["other"] == [run.id for run in Api({"project": "q"}).runs()]
    assert [] == list(Api().runs("nothing"))
    assert ["p", "q"] == [project.name for project in Api().projects()]


def test_an_unreadable_run_is_skipped(runs, base, caplog):
    """The others are listed, and the log names it."""
    broken = base / "p" / "broken"
    broken.mkdir()
    (broken / "journal.db").write_text("no database")
    assert ["r0", "r1", "r2"] == [run.id for run in Api().runs("p")]
    assert str(broken) in caplog.text


def test_artifacts_of_the_api():
    with run(run_id="r1") as experiment:
        for text in ("one", "two"):
            artifact = artifacts.Artifact("m", "model")
            with artifact.new_file("x.txt") as file:
                file.write(text)
            artifacts.log(artifact, experiment, tags=[text])
    api = Api({"project": "p"})
    assert "m:v1" == api.artifact("m:latest", "model").name
    assert ["m:v1", "m:v0"] == [found.name for found in api.artifacts("model", "p/m")]
    assert ["m:v0"] == [found.name for found in api.artifacts("model", "m", tags=["one"])]
    assert (True, False, False) == (
        api.artifact_exists("m:v0"),
        api.artifact_exists("m:v2"),
        api.artifact_exists("m:v0", "dataset"),
    )
    assert ["model"] == [found.name for found in api.artifact_types()]
    assert ["m"] == [found.name for found in api.artifact_type("model").collections()]
    assert ["m:v0", "m:v1"] == [found.name for found in api.run("r1").logged_artifacts()]
    with pytest.raises(CommError, match="other"):
        api.artifacts("model", "other")


_SERVER_METHODS = ("sweep", "reports", "create_run", "user", "team", "run_queue", "registry", "automations", "job")


@pytest.mark.parametrize("name", _SERVER_METHODS)
def test_methods_that_need_a_server(name):
    """They raise at the call, and name the method; each is one of wandb's."""
    assert hasattr(wandb.Api, name)
    with pytest.raises(UnsupportedError, match=rf"Api\.{name}: "):
        getattr(Api(), name)("x")


def test_every_public_name_of_wandb_is_there():
    """A program gets no AttributeError for a method of wandb's `Api` and of its runs."""
    with run(run_id="r1"):
        pass
    api, internal = Api(), {"snake_to_camel"}
    for theirs, ours in ((wandb.Api, api), (wandb.apis.public.Run, api.run("r1"))):
        public = {name for name in dir(theirs) if not name.startswith("_")}
        assert internal >= {name for name in public if not hasattr(ours, name)}
        with pytest.raises(AttributeError):
            ours.unknown  # noqa: B018


def test_histories_of_several_runs(runs):
    expected = [("r0", 3.0), ("r1", 1.0), ("r2", 2.0)]
    assert expected == [(row["run_id"], row["loss"]) for row in Api().runs("p").histories(keys=["loss"])]
    assert [3.0, 1.0, 2.0] == Api().runs("p").histories(format="pandas")["loss"].tolist()


def test_changes_of_a_past_run_raise():
    """They name what to use instead."""
    with run(run_id="r1"):
        pass
    found = Api().run("r1")
    for change in (found.update, found.delete, found.stop, found.save):
        with pytest.raises(UnsupportedError):
            change()
    with pytest.raises(UnsupportedError, match="tracelet rm r1"):
        found.delete()
