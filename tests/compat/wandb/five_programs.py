"""Five programs written for wandb. Each runs with the real one and with the facade."""

SCALARS = """
import numpy
import wandb

run = wandb.init(project="five", id="scalars", name="scalars")
for step in range(5):
    wandb.log({"loss": 1 / (step + 1), "train/accuracy": step / 5})
wandb.log({"loss": 0.1}, commit=False)
wandb.log({"loss": 0.05, "late": 1})  # replaces the value of the same row
wandb.log({"far": 1.5}, step=20)
wandb.log({"beside": numpy.float32(0.25)}, step=20)
wandb.log({"ignored": 1}, step=3)
wandb.log({"joins": True})  # the row of step 20
wandb.log({"nested": {"a": 1, "b": {"c": 2}}})
wandb.log({"nested": {"a": 3}}, commit=False)
wandb.log({"nested": {"d": 4}})
wandb.log({})
wandb.log({"nan": float("nan"), "infinity": float("inf"), "large": 2**40, "zero": numpy.zeros(())})
run.log({"closed": 1}, step=40, commit=True)
run.log({"refused": 1}, step=40)
run.log({"last": 1}, step=41)  # only finish ends this row
assert run.step == 41
wandb.finish()
assert wandb.run is None
"""

CONFIG = """
import argparse
import wandb

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=8)
parser.add_argument("--names", nargs="*", default=["a", "b"])
config = {"lr": 0.1, "model": {"layers": [1, 2], "dropout": {"rate": 0.5}}, "secret": 1, "flag": True, "none": None}
run = wandb.init(
    project="five", id="config", config=config, config_exclude_keys=["secret"], tags=("one", "two"), group="g"
)
wandb.config.update(parser.parse_args([]))
wandb.config.added = 3
wandb.config["model2"] = {"x": 1}
try:
    wandb.config.lr = 0.2
except wandb.Error:
    pass
else:
    raise AssertionError("a value changed")
wandb.config.update({"lr": 0.3}, allow_val_change=True)
wandb.config.setdefaults({"lr": 9, "fresh": "yes"})
assert run.config.lr == 0.3 and "secret" not in run.config and run.config["model"]["layers"] == [1, 2]

wandb.define_metric("epoch")
wandb.define_metric("val/*", step_metric="epoch", summary="min")
wandb.define_metric("val/loss", step_metric="epoch", summary="min,max")
wandb.define_metric("best", summary="max,last,first,mean")
wandb.define_metric("hidden", summary="none")
for epoch in range(3):
    wandb.log({"epoch": epoch, "val/loss": (2 - epoch) ** 2, "best": [0.5, 0.9, 0.7][epoch], "hidden": epoch})
    wandb.log({"val/other": epoch + 1.0, "plain": epoch})  # gets the epoch
run.summary["accuracy"] = 0.93
run.summary.update({"scores": {"f1": 0.5}})
run.summary["plain"] = 100
run.finish()
"""

MEDIA = """
import io
import math
import numpy
from PIL import Image
import wandb

run = wandb.init(project="five", id="media")
pixels = numpy.arange(6 * 4 * 3, dtype=numpy.uint8).reshape(6, 4, 3)
run.log({"image": wandb.Image(pixels, caption="numbers"), "loss": 0.5})
run.log({"grey": wandb.Image(pixels[:, :, 0] / 255), "pil": wandb.Image(Image.fromarray(pixels))})
boxes = {"predictions": {"box_data": [{"position": {"minX": 0.1, "maxX": 0.5, "minY": 0.1, "maxY": 0.9},
         "class_id": 1, "scores": {"score": 0.5}}], "class_labels": {1: "cat"}}}
masks = {"truth": {"mask_data": numpy.ones((6, 4), dtype=numpy.uint8), "class_labels": {1: "cat"}}}
run.log({"boxed": wandb.Image(pixels, boxes=boxes, masks=masks)})
sound = numpy.array([math.sin(i / 10) for i in range(800)])
run.log({"sound": wandb.Audio(sound, sample_rate=8000, caption="a tone")})
run.log({"histogram": wandb.Histogram(numpy.arange(10.0)), "edges": wandb.Histogram(np_histogram=([1, 2], [0, 1, 3]))})
table = wandb.Table(columns=["name", "score"], data=[["a", 0.5], ["b", None]])
table.add_data("c", 1.5)
run.log({"table": table, "array": numpy.arange(50.0)})
run.log({"html": wandb.Html("<b>bold</b>"), "words": "some text"})
run.log({"chart": wandb.plot.line_series([0, 1, 2], [[1.0, 2.0, 3.0]], keys=["a"], title="lines")})
run.finish()
"""

ARTIFACTS = """
import pathlib
import wandb

pathlib.Path("model.bin").write_bytes(b"weights")
folder = pathlib.Path("data")
(folder / "inner").mkdir(parents=True)
(folder / "a.txt").write_text("a")
(folder / "inner" / "b.txt").write_text("b")
with wandb.init(project="five", id="artifacts") as run:
    artifact = wandb.Artifact("model", "model", description="the best", metadata={"accuracy": 0.9})
    artifact.add_file("model.bin")
    artifact.add_dir("data", name="inputs")
    with artifact.new_file("notes.txt") as file:
        file.write("notes")
    run.log_artifact(artifact)
    pathlib.Path("model.bin").write_bytes(b"changed later")
    run.log_artifact("data/a.txt", name="single", type="dataset")
"""

SEVERAL = """
import wandb

for number in range(2):
    with wandb.init(project="five", id=f"run-{number}", name=f"name {number}", config={"number": number}) as run:
        run.log({"value": number})
        run.log({"value": number + 0.5})
first = wandb.init(project="five", id="outer")
again = wandb.init(project="five", id="unused")
assert again is first
second = wandb.init(project="five", id="inner", reinit="create_new")
assert wandb.run is first and second is not first
second.log({"value": 10})
first.log({"value": 20})
second.finish()
wandb.log({"value": 21})
wandb.finish()
wandb.init(project="five", id="resumed", resume="allow")
wandb.log({"value": 1}, step=1)
wandb.finish()
with wandb.init(project="five", id="resumed", resume="allow") as run:
    run.log({"value": 2}, step=2)
try:
    with wandb.init(project="five", id="failing"):
        wandb.log({"value": -1})
        raise KeyError("the program's own")
except KeyError:
    pass
off = wandb.init(mode="disabled")
off.log({"value": 5})
assert off.disabled
wandb.finish()
"""

PROGRAMS = {"scalars": SCALARS, "config": CONFIG, "media": MEDIA, "artifacts": ARTIFACTS, "several": SEVERAL}
