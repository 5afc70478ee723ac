"""`tracelet.compat.ezpz`: Weights & Biases offline, and MLflow with a database and with a server."""

import os
import sys
import warnings

import mlflow
import pytest
from backends import mlflow_server, mlflow_store, wandb_store
from PIL import Image

import tracelet
from tracelet.compat.ezpz import MLflowBackend, Tracker, WandbBackend, environment, setup_tracker


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """A new store of MLflow takes seconds."""
    monkeypatch.setenv("TRACELET_CONNECT_TIMEOUT", "60")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real server on loopback. It is killed by its own pid at the end."""
    with mlflow_server.running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (4, 3), (255, 0, 0)).save(path)
    return path


# One run for all vendors.


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """The folder of a tracker with all three backends, after its end."""
    folder = tmp_path_factory.mktemp("story")
    picture, model = folder / "picture.png", folder / "model"
    Image.new("CMYK", (4, 3)).save(folder / "picture.jpg")
    Image.new("RGB", (4, 3), (255, 0, 0)).save(picture)
    model.mkdir()
    (model / "weights.bin").write_bytes(b"weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("HOME", str(folder))
        patch.setenv("TRACELET_CONNECT_TIMEOUT", "60")
        config = {"lr": 0.1, "model": {"layers": 2}}
        tracker = setup_tracker(
            "vision.small", "wandb,csv,mlflow", config, folder, mode="offline", tags=["one"], job_type="train"
        )
        assert (True, True) == (tracker.wandb_run is not None, tracker.mlflow_run is not None)
        assert 0.1 == tracker.wandb_run.config["lr"]  # at once, as ezpz sets it
        tracker.log({"loss": 0.5, "loss/mean": 0.25, "acc": True, "note": "words", "none": None, "d": {"x": 1}}, step=3)
        tracker.log({"loss": 0.5})
        tracker.log({"late": "1.5"}, commit=False)
        tracker.log({"later": 2})
        tracker.log_config({"seed": 1})
        tracker.log_table("confusion", ["cat", "dog"], [[5, 1], [0, 7]])
        tracker.log_image("sample", picture, caption="A red field")
        tracker.log_image("other", folder / "picture.jpg")
        tracker.log_image("lost", folder / "missing.png")
        tracker.log_artifacts({"best": model, "one/file": picture, "lost": folder / "missing"})
        tracker.finish()
    return folder


def test_mlflow_gets_numbers_by_step(story):
    """Values that float() accepts are metrics, others are skipped. Without a step, the count continues."""
    run = mlflow_store.only(story / "mlflow.db")
    found = sorted((key, step, value) for key, step, value, _ in run.metrics)
    expected = [("acc", 3, 1.0), ("late", 5, 1.5), ("later", 5, 2.0), ("loss", 4, 0.5), ("loss/local", 3, 0.5)]
    assert [*expected, ("loss/mean", 3, 0.25)] == found
    assert ("FINISHED", "vision-small") == (run.status, run.experiment)
    assert [] == run.facts("text")


def test_mlflow_gets_the_config_and_facts_as_params(story):
    params = mlflow_store.only(story / "mlflow.db").params
    config = {name: value for name, value in params.items() if name.startswith("config.")}
    assert {"config.lr": "0.1", "config.model.layers": "2", "config.seed": "1"} == config
    facts = {"version", "hostname", "machine", "device", "world_size", "rank", "local_rank", "working_directory"}
    facts |= {"timestamp", "date", "year", "month", "day", "python_version", "torch_version", "command"}
    assert {f"ezpz.{name}" for name in facts} <= set(params)
    assert str(story) == params["ezpz.working_directory"]
    assert set(params) == {name for name in params if name.startswith(("config.", "ezpz."))}


def test_mlflow_gets_files(story):
    run = mlflow_store.only(story / "mlflow.db")
    assert b"cat,dog\r\n5,1\r\n0,7\r\n" == run.artifacts["tables/confusion.csv"]
    assert b"weights" == run.artifacts["best/weights.bin"]
    assert "one/file/picture.png" in run.artifacts
    assert ["other", "sample"] == sorted(tag for tag, *_ in run.images())
    assert b"A red field" in run.artifacts.values()


def test_wandb_gets_everything_in_one_run(story):
    run = wandb_store.only(story)
    assert ("vision.small", ("one",)) == (run.project, run.tags)
    (row,) = [row for row in run.rows if "loss/mean" in row]
    assert {"loss": 0.5, "loss/mean": 0.25, "acc": 1.0, "global_step": 3} == {
        name: row[name] for name in ("loss", "loss/mean", "acc", "global_step")
    }
    (row,) = [row for row in run.rows if "late" in row]
    assert (1.5, 2.0) == (row["late"], row["later"])
    assert [{"x": 1}] == [row["d"] for row in run.rows if "d" in row]
    (image,) = [row["sample"] for row in run.rows if "sample" in row]
    assert "A red field" == image["caption"]


def test_wandb_gets_the_config_and_facts(story):
    config = wandb_store.only(story).config
    assert (0.1, 2, 1) == (config["lr"], config["model.layers"], config["seed"])
    assert {"hostname", "torch_version", "ezpz_version", "world_size"} <= set(config)
    assert str(story) == config["working_directory"]


# Each backend alone.


def test_wandb_alone(tmp_path):
    backend = WandbBackend("p", {"lr": 0.1}, str(tmp_path / "out"), 0, mode="offline", name="n", group=None)
    assert "n" == backend.run.name
    backend.log({"loss": 0.5}, step=1)
    backend.finish()
    assert None is backend.run
    run = wandb_store.only(tmp_path / "out")
    assert [(1, 0.5)] == [point[:2] for point in run.series("loss")]
    assert 0.1 == run.config["lr"]


def test_wandb_can_be_disabled(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_DISABLED", "true")
    backend = WandbBackend("p", outdir=tmp_path)
    backend.log({"loss": 0.5})
    backend.finish()
    assert not (tmp_path / "wandb").exists()


def test_an_invalid_mode_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="mode of wandb"):
        WandbBackend("p", outdir=tmp_path, mode="of")


def test_mlflow_alone(tmp_path):
    """Arguments of wandb are ignored. A database has no page."""
    backend = MLflowBackend("p", {"lr": 0.1}, None, 0, run_name="night", mode="offline", tags={"a": "b"})
    assert (None, True) == (backend.run_url, backend.run is not None)
    backend.log({"loss": 0.5})
    backend.log({"loss": 0.25}, step=7)
    backend.log({"loss": 0.125})
    backend.finish()
    run = mlflow_store.only(tmp_path / "mlflow.db")
    assert [(0, 0.5), (7, 0.25), (8, 0.125)] == [point[:2] for point in run.series("loss")]
    assert ("night", "b", "0.1") == (run.name, run.tags["a"], run.params["config.lr"])


def test_an_existing_run_of_mlflow(tmp_path):
    """By its id. An experiment is also found by its id."""
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("earlier")
    run = client.create_run(experiment)
    client.set_terminated(run.info.run_id)
    for arguments in ({"run_id": run.info.run_id}, {"experiment_id": experiment}):
        backend = MLflowBackend("p", None, None, 0, **arguments)
        backend.log({"loss": 0.5}, step=1)
        backend.finish()
    runs = mlflow_store.runs(tmp_path / "mlflow.db")
    assert ["earlier"] * 2 == [run.experiment for run in runs]
    assert ["FINISHED"] * 2 == [run.status for run in runs]
    assert [[(1, 0.5)]] * 2 == [[point[:2] for point in run.series("loss")] for run in runs]


def test_other_ranks_have_no_run(tmp_path):
    tracker = Tracker([MLflowBackend("p", rank=1), WandbBackend("p", rank=2, mode="nonsense")])
    tracker.log({"a": 1})
    assert (None, None, None) == (tracker.mlflow_run, tracker.wandb_run, tracker.backends[0].run_url)
    tracker.finish()
    assert ["home"] == [name for name in os.listdir(tmp_path) if name != "runs"]


def test_an_unknown_argument_is_a_warning(tracked, caplog):
    tracked("p", "mlflow", job_type="train", nosuch=1)
    assert "unknown argument 'nosuch' is ignored" in caplog.text
    assert "job_type" not in caplog.text


def test_a_dead_server_does_not_raise(tracked, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{mlflow_server.free_port()}")
    monkeypatch.setenv("TRACELET_CONNECT_TIMEOUT", "0.1")
    monkeypatch.setenv("TRACELET_FLUSH_TIMEOUT", "0.1")
    tracker = tracked("p", "mlflow")
    tracker.log({"loss": 0.5}, step=0)
    assert None is tracker.mlflow_run


# Two trackers.


def test_two_trackers_have_two_runs_in_mlflow(tracked, tmp_path):
    first, second = tracked("a", "mlflow"), tracked("b", "mlflow")
    first.log({"x": 1}, step=0)
    second.log({"y": 2}, step=0)
    first.finish()
    second.finish()
    runs = {run.experiment: run for run in mlflow_store.runs(tmp_path / "mlflow.db")}
    assert {"a": {"x"}, "b": {"y"}} == {name: {key for key, *_ in run.metrics} for name, run in runs.items()}
    assert {"FINISHED"} == {run.status for run in runs.values()}


def test_two_trackers_have_two_runs_in_wandb(tracked, tmp_path):
    first, second = tracked("a", "wandb", outdir=tmp_path / "a"), tracked("b", "wandb", outdir=tmp_path / "b")
    first.log({"x": 1}, step=0)
    second.log({"y": 2}, step=0)
    first.log({"x": 3}, step=1)
    first.finish()
    second.log({"y": 4}, step=1)
    second.finish()
    assert [1, 3] == [point[1] for point in wandb_store.only(tmp_path / "a").series("x")]
    assert [2, 4] == [point[1] for point in wandb_store.only(tmp_path / "b").series("y")]


def test_mlflow_calls_of_the_program_use_the_run(tracked, tmp_path):
    tracked("p", "mlflow")
    mlflow.log_metric("own", 1.0)
    assert "own" in {key for key, *_ in mlflow_store.only(tmp_path / "mlflow.db").metrics}


# A server.


def test_the_page_of_the_run(server, monkeypatch, tracked):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    tracker = tracked("paged", "mlflow")
    run, url = tracker.mlflow_run.info, tracker.get_backend("mlflow").run_url
    assert f"{server.url}/#/experiments/{run.experiment_id}/runs/{run.run_id}" == url


@pytest.mark.parametrize("variable", ["AMSC_API_KEY", "AM_SC_API_KEY"])
def test_the_api_key_reaches_this_server_only(server, monkeypatch, tracked, variable):
    """Each request of the tracker, and of the program to the same server, has the header; no other request has."""
    monkeypatch.setenv(variable, "key-0123456789")
    with mlflow_server.proxy(server.url) as ours, mlflow_server.proxy(server.url) as others:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", ours.url)
        tracker = tracked("keyed", "mlflow")
        tracker.log({"loss": 0.5}, step=0)
        mlflow.log_metric("own", 1.0)
        mlflow.MlflowClient(others.url).search_experiments()
        tracker.finish()
        mlflow.MlflowClient(ours.url).search_experiments()
    calls = [headers.get("X-Api-Key") for _, path, headers, _ in ours.seen if path != "/health"]
    assert {"key-0123456789"} == set(calls[:-1])
    assert None is calls[-1]  # after the end of the tracker
    assert {None} == {headers.get("X-Api-Key") for *_, headers, _ in others.seen}


def test_a_token_of_mlflow_comes_first(server, monkeypatch, tracked):
    monkeypatch.setenv("AMSC_API_KEY", "key-0123456789")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token-0123456789")
    with mlflow_server.proxy(server.url) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        tracked("tokened", "mlflow").finish()
    seen = [headers for _, path, headers, _ in proxy.seen if path != "/health"]
    assert {("Bearer token-0123456789", None)} == {(h.get("Authorization"), h.get("X-Api-Key")) for h in seen}


def test_the_key_is_in_no_file(server, monkeypatch, tracked, tmp_path):
    monkeypatch.setenv("AMSC_API_KEY", "key-0123456789")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    tracked("secret", "mlflow", {"command": "--key key-0123456789"}, outdir=tmp_path / "out").finish()
    for path in (tmp_path / "out").rglob("*"):
        assert not (path.is_file() and b"key-0123456789" in path.read_bytes()), path


# Environment files.


def test_env_files(monkeypatch, tmp_path):
    """`~/.amsc.env` does not win over a variable; the project's `.env` does, also from a folder below it."""
    (tmp_path / "home" / ".amsc.env").write_text("MLFLOW_A=amsc\nMLFLOW_B=amsc\nMLFLOW_C=amsc\n")
    (tmp_path / ".env").write_text("MLFLOW_B=project\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.setenv("MLFLOW_A", "set")
    for name in ("MLFLOW_B", "MLFLOW_C"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    environment.load_env_files()
    assert ["set", "project", "amsc"] == [os.environ[f"MLFLOW_{name}"] for name in "ABC"]


def test_env_files_without_dotenv(monkeypatch, tmp_path, caplog):
    (tmp_path / ".env").write_text("MLFLOW_B=project\n")
    monkeypatch.setitem(sys.modules, "dotenv", None)
    environment.load_env_files()
    assert "MLFLOW_B" not in os.environ
    assert "Install python-dotenv" in caplog.text


@pytest.mark.parametrize(("value", "count"), [("true", 0), ("1", 0), ("YES", 0), ("false", 1), ("", 1)])
def test_warnings_of_unchecked_certificates(monkeypatch, value, count):
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", value)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        environment.silence_insecure_tls()
        warnings.warn("Unverified HTTPS request is being made to host 'x'.", stacklevel=1)
    assert count == len(seen)


def test_watch_reaches_wandb_alone(tracked, tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 1)
    tracker = tracked("p", "wandb,mlflow", outdir=tmp_path, mode="offline")
    tracker.watch(model, log="gradients", log_freq=1, log_graph=True)
    model(torch.ones(1, 2)).sum().backward()
    tracker.finish()
    run = wandb_store.only(tmp_path)
    assert {"gradients/weight", "gradients/bias"} <= {key for row in run.rows for key in row}
    assert [] == mlflow_store.only(tmp_path / "mlflow.db").facts("histogram")


def test_start_logging_again_is_another_run_in_mlflow(tmp_path):
    """The first run, which the second call ends, is not the program's own active run."""
    for name in ("a", "b"):
        experiment = tracelet.start_logging(backend="mlflow")
        experiment.log({name: 1})
    experiment.stop()
    runs = mlflow_store.runs(tmp_path / "mlflow.db")
    assert [{"a"}, {"b"}] == sorted(({key for key, *_ in run.metrics} for run in runs), key=str)
    assert {"FINISHED"} == {run.status for run in runs}
