"""Tasks in processes of their own, as a cluster starts them: children that join the run of their parent, and aborts."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from backends import csv_store, mlflow_store
from backends.wandb_server import WandbServer
from frameworks.flyte_tasks import the_run

from tracelet.journal.store import JournalReader

pytestmark = pytest.mark.timeout(180)
DEADLINE = 120

# The parent calls its child in another process, with the context that Flyte would give to it.
CLUSTER = """
    import json, os, subprocess, sys
    import flyte
    from flyte._context import internal_ctx
    from flyte.models import ActionID, RawDataPath, TaskContext
    from flyte.report import Report
    from tracelet.integrations.flyte import get_run, get_wandb_run, track

    backends, mode = os.environ["BACKENDS"].split(","), os.environ.get("MODE", "auto")
    env = flyte.TaskEnvironment(name="cluster")

    @track(backend=backends, project="p", run_mode=mode if "CHILD" in os.environ else "auto", connect_timeout=60)
    @env.task
    def task() -> str:
        get_wandb_run().log({"x": 2.0 if "CHILD" in os.environ else 1.0})
        if "CHILD" in os.environ:
            return get_run().run_id
        context = json.dumps(flyte.get_custom_context())
        environment = {**os.environ, "CHILD": context}
        environment.pop("WANDB_SERVICE", None)  # the process of wandb on this machine
        command = [sys.executable, *sys.argv]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, timeout=90, text=True, check=True
        )
        get_wandb_run().log({"x": 3.0})
        return get_run().run_id + " " + done.stdout.split()[-1]

    here = os.getcwd()
    action = ActionID(name="a1" if "CHILD" in os.environ else "a0", run_name="job")
    context = TaskContext(
        action=action, mode="remote", version="v", raw_data_path=RawDataPath(path=here), output_path=here,
        run_base_dir=here, report=Report(name="r"), custom_context=json.loads(os.environ.get("CHILD", "{}")),
    )
    with internal_ctx().replace_task_context(context):
        print(task.func())
"""


def ran(program, *arguments, **variables):
    """Return the last words that a program printed."""
    Path("program.py").write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, "program.py", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_a_child_in_another_process_joins_the_run_of_its_parent(tmp_path):
    """Its names begin with its action, so that they never meet those of the parent."""
    uri = f"sqlite:///{tmp_path}/m.db"
    assert ["job-a0", "job-a0"] == ran(CLUSTER, BACKENDS="csv,mlflow", MLFLOW_TRACKING_URI=uri)
    parent = the_run()
    assert {"x": [1, 3]} == parent.series
    (child,) = parent.folder.glob("ranks/*")
    assert [("a1/x", 2)] == [(tag, value) for tag, _, value, _ in csv_store.stored(child / "csv").scalars]
    for folder in (parent.folder, child):
        with JournalReader(folder) as reader:
            assert "finished" == reader.facts()["status"]
    (run,) = mlflow_store.runs(tmp_path / "m.db", tmp_path / "mlruns")
    assert "FINISHED" == run.status
    found = sorted((run.tag_of(key), value) for key, _, value, _ in run.metrics if run.tag_of(key).endswith("x"))
    assert [("a1/x", 2), ("x", 1), ("x", 3)] == [pair for pair in found if not pair[0].startswith("summary")]


def test_a_new_child_in_another_process_has_its_own_run():
    assert ["job-a0", "job-a1"] == ran(CLUSTER, BACKENDS="csv", MODE="new")


def test_a_child_in_another_process_writes_to_the_run_in_wandb():
    """In wandb's shared mode, which is for this: the parent is its primary writer, and alone ends it."""
    server = WandbServer().start()
    try:
        assert ["job-a0", "job-a0"] == ran(CLUSTER, BACKENDS="wandb", **server.environment())
    finally:
        server.stop()
    run = server.the_run()
    assert "job-a0" == run.id
    assert [1, 2, 3] == sorted(run.values("x"))
    assert [0] == run.exit_codes


LOCAL = """
    import asyncio, sys, time
    import flyte
    from tracelet.integrations.flyte import get_run, track

    env = flyte.TaskEnvironment(name="local")

    @track(backend="csv", project="p")
    @env.task
    def task() -> str:
        get_run().log({"x": 1.0})
        print("ready", flush=True)
        time.sleep(100)
        return ""

    @track(backend="csv", project="p")
    @env.task
    async def async_task() -> str:
        get_run().log({"x": 1.0})
        print("ready", flush=True)
        await asyncio.sleep(100)
        return ""

    flyte.init()
    runner = flyte.with_runcontext(mode="local", raw_data_path="raw")
    runner._metadata_path = "metadata"
    runner.run({"task": task, "async_task": async_task}[sys.argv[1]])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["task", "async_task"])
def test_an_aborted_task_is_killed(name, number):
    """By SIGTERM, as a cluster does, and by Ctrl-C; although Flyte calls tasks in threads."""
    Path("program.py").write_text(textwrap.dedent(LOCAL))
    process = subprocess.Popen(
        [sys.executable, "program.py", name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        assert any(line == "ready\n" for line in process.stdout)
        process.send_signal(number)
        process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.communicate()
    assert -number == process.returncode
    assert ("killed", {"x": [1]}) == (the_run().status, the_run().series)


def test_importing_tracelet_imports_no_flyte():
    program = "import json, sys; import tracelet; print(json.dumps([name for name in sys.modules if 'flyte' in name]))"
    assert [] == json.loads(" ".join(ran(program)))
