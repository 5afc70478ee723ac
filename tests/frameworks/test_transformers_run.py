"""A Transformers script as others write them, under `tracelet run`, with no word of tracelet in it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from backends import csv_store
from frameworks.event_compare import in_files, in_memory
from programs import ending, the_run

from tracelet.journal.store import JournalReader
from tracelet.records import Scalar, shown_step

SCRIPT = Path(__file__).parent.parent / "scripts" / "train_transformers.py"
ARGUMENTS = (
    "--output_dir=out --do_train --do_eval --report_to=tensorboard --num_train_epochs=2 --logging_steps=1 --use_cpu "
    "--eval_strategy=epoch --save_strategy=no --per_device_train_batch_size=4 --disable_tqdm=true --hidden_size=16"
)


def test_a_script_is_carried_whole():
    """HfArgumentParser gets its own words; journal and csv hold every point, text and step of the event file."""
    done = subprocess.run(
        [sys.executable, "-m", "tracelet", "run", "--backend", "csv", str(SCRIPT), *ARGUMENTS.split()],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=270,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    folder = the_run()
    assert ("finished", 0) == ending(folder)
    with JournalReader(folder) as reader:
        records = list(reader.records())

    root = min(Path("out").rglob("events.out.tfevents.*")).parent
    expected = in_files("out", root, {})
    assert expected == in_memory(SimpleNamespace(records=records))
    assert [1, 2, 3, 4, 5, 6, 7, 8] == [step for _, step, *_ in expected["train/loss"]]
    assert [4, 8, 8] == [step for _, step, *_ in expected["eval/accuracy"]]
    ((*_, configuration),) = expected["model_config"]
    assert 16 == json.loads(configuration)["hidden_size"]
    scalars = [(one.tag, shown_step(one.step), one.value, one.wall_time) for one in records if isinstance(one, Scalar)]
    assert list(map(repr, scalars)) == list(map(repr, csv_store.stored(folder / "csv").scalars))
