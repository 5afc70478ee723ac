"""Files that the program gives to wandb: artifacts, saved files, code; with their bytes of that moment."""

from pathlib import Path

import pytest

import tracelet
from tracelet.records import Artifact


def files(memory, record):
    return {file.name: memory.data(file) for file in record.files}


def test_artifacts_with_their_files(wandb, captured, memory):
    """Files, folders, references, metadata and aliases; changes after the call do not matter."""
    Path("data").mkdir()
    Path("data/a.txt").write_text("a")
    Path("data/b.txt").write_text("b")
    with wandb.init() as run:
        artifact = wandb.Artifact("set", "dataset", description="rows", metadata={"size": 2})
        artifact.add_dir("data", name="train")
        artifact.add_file("data/a.txt", name="test/a.txt")
        artifact.add_reference("s3://bucket/far", name="far", checksum=False)
        run.log_artifact(artifact, aliases=["best"])
        Path("data/a.txt").write_text("changed")
        wandb.log_artifact("data", name="folder", type="dataset")
        run.log_model("data/b.txt", name="net")
        with pytest.raises(ValueError, match="path must be"):
            run.log_artifact("missing.txt")
        with pytest.raises(TypeError, match=r"wandb\.Artifact"):
            run.log_artifact(3)
    captured.stop()

    first, folder, model = memory.of(Artifact)
    assert ("set", "dataset") == (first.name, first.type)
    assert {"train/a.txt": b"a", "train/b.txt": b"b", "test/a.txt": b"a"} == files(memory, first)
    expected = {"size": 2, "description": "rows", "references": {"far": "s3://bucket/far"}, "aliases": ["best"]}
    assert expected == first.metadata
    assert ("folder", {"a.txt": b"changed", "b.txt": b"b"}) == (folder.name, files(memory, folder))
    assert ("net", "model", {"b.txt": b"b"}) == (model.name, model.type, files(memory, model))


def test_tables_are_no_artifacts(wandb, captured, memory):
    """wandb makes an artifact of each table; it has a record of its own already."""
    with wandb.init() as run:
        run.log({"table": wandb.Table(columns=["x"], data=[[1]], log_mode="INCREMENTAL")})
        run.log({"table": wandb.Table(columns=["x"], data=[[1]])})
    captured.stop()
    assert [] == memory.of(Artifact)


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_saved_files(wandb, memory, mode, monkeypatch):
    """At the call, and again at the end of either run if they have changed, as wandb uploads them."""
    monkeypatch.setenv("WANDB_MODE", mode)
    for name in ("out/model.txt", "out/sub/log.txt", "same.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("first")
    experiment = tracelet.start_logging(backend=memory, capture=["wandb"])
    run = wandb.init(name="one")
    run.save("out/*.txt", base_path="out")
    wandb.save("out/sub/*", base_path="out")
    wandb.save("same.txt", policy="now")
    wandb.save("none*.txt")
    Path("out/model.txt").write_text("second")
    run.finish()
    run = wandb.init(name="two")
    run.save("same.txt")
    Path("same.txt").write_text("third")
    experiment.stop()
    run.finish()

    assert [
        ("model.txt", {"model.txt": b"first"}),
        ("sub/log.txt", {"log.txt": b"first"}),
        ("same.txt", {"same.txt": b"first"}),
        ("model.txt", {"model.txt": b"second"}),
        ("two/same.txt", {"same.txt": b"first"}),
        ("two/same.txt", {"same.txt": b"third"}),
    ] == [(record.name, files(memory, record)) for record in memory.of(Artifact)]


def test_code(wandb, captured, memory):
    Path("train.py").write_text("pass")
    with wandb.init() as run:
        run.log_code(".", name="source")
    captured.stop()
    (record,) = memory.of(Artifact)
    assert ("source", "code", b"pass") == (record.name, record.type, files(memory, record)["train.py"])


def test_watched_models(wandb, captured, memory):
    """The histograms of `wandb.watch` come through wandb's own rows."""
    import torch

    from tracelet.records import Histogram

    model = torch.nn.Linear(2, 1)
    with wandb.init() as run:
        run.watch(model, log="all", log_freq=1)
        model(torch.ones(3, 2)).sum().backward()
        run.log({"loss": 1.0})
    captured.stop()
    assert {"gradients/weight", "gradients/bias", "parameters/weight", "parameters/bias"} == {
        record.tag for record in memory.of(Histogram)
    }
    assert {0} == {record.step for record in memory.of(Histogram)}


def test_name_and_notes(wandb, captured, memory):
    """What is set later is a parameter; a run that tracelet has begun keeps its own name."""
    from tracelet.records import Params

    with wandb.init(notes="before", group="g") as run:
        run.name, run.notes = "after", "more"
        run.config.update({"lr": 0.1}, allow_val_change=True)
        run.config["lr-"] = 0.1
        with pytest.raises(wandb.sdk.lib.config_util.ConfigError):
            run.config.lr = 0.2
    captured.stop()
    params = {name: value for record in memory.of(Params) for name, value in record.values.items()}
    assert ("after", "more", "g", 0.1) == tuple(
        params[key] for key in ("wandb.name", "wandb.notes", "wandb.group", "lr")
    )
