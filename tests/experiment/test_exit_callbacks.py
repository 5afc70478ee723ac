"""The order of the end: the program's exit callbacks log, the run ends, and then the vendors shut down."""

import textwrap

import pytest
from backends import wandb_store
from programs import csv_values, ending, run_program, the_run

POSITIONS = ["before the import", "before the run", "during the run", "while the vendor connects"]


@pytest.mark.parametrize("position", POSITIONS)
def test_an_exit_callback_is_logged_before_the_vendors_shut_down(position):
    """In whatever order they were registered, and however late the vendor registered its own."""
    register = "atexit.register(late, 'final', value=1.0)"
    lines = {name: register if name == position else "" for name in POSITIONS}
    source = f"""
        import atexit, threading, time

        def late(tag, *, value):
            print("program")
            experiment.log_metric(tag, value, 1)

        {lines["before the import"]}
        import tracelet

        connecting, registered = threading.Event(), threading.Event()

        class Vendor(tracelet.Backend):
            name = "vendor"
            held = []
            def open(self, run):
                connecting.set()
                registered.wait(30)
                atexit.register(lambda mode: print(mode, [record.value for record in self.held]), "vendor")
            def write(self, batch):
                self.held.extend(batch)

        {lines["before the run"]}
        experiment = tracelet.start_logging(backend=["csv", Vendor()], wait=False)
        experiment.log_metric("final", 0.0, 0)
        {lines["during the run"]}
        connecting.wait(30)
        {lines["while the vendor connects"]}
        registered.set()
        assert experiment._orchestrator.deliveries["vendor"].wait_opened(time.monotonic() + 30)
    """
    ended = run_program(source)
    assert (0, "program\nvendor [0.0, 1.0]\n") == (ended.returncode, ended.out), ended.err
    assert [0.0, 1.0] == csv_values(the_run(), "final")
    assert ("finished", 0) == ending(the_run())


def test_each_callback_is_called_once_and_in_its_order():
    """With its arguments; one that raises is reported by Python, and does not stop the others."""
    source = """
        import atexit, functools, sys, tracelet

        atexit.register(print, "first")
        atexit.register(print, "second", end=".\\n")
        experiment = tracelet.start_logging(backend="csv")
        atexit.register(functools.partial(print, "third"))
        atexit.register(print, "fourth")
        atexit.register(experiment.log_metric, "loss", 1.0)
        atexit.register(lambda: 1 / 0)
        sys.exit(3)
    """
    ended = run_program(source)
    assert (3, "fourth\nthird\nsecond.\nfirst\n") == (ended.returncode, ended.out)
    assert "ZeroDivisionError" in ended.err
    assert [1.0] == csv_values(the_run())
    assert ("failed", 3) == ending(the_run())


@pytest.mark.parametrize("end", ["os._exit(4)", "shutil.rmtree(folder)"])
def test_earlier_records_are_delivered_before_the_callbacks(end, tmp_path):
    """A callback may end the process, or delete the folder of the run."""
    source = f"""
        import atexit, os, shutil, sys, tracelet

        folder, results = sys.argv[1:]
        atexit.register(lambda: {end})
        experiment = tracelet.start_logging(backend="csv", dir=folder, config={{"dir": results}})
        for step in range(1000):
            experiment.log_metric("loss", step, step)
    """
    run_program(source, tmp_path / "deleted", tmp_path / "results")
    lines = (tmp_path / "results" / "scalars.csv").read_text().splitlines()
    assert 1000 == len(lines) - 1


def test_a_vendors_callback_that_the_vendor_removes_is_not_called():
    """A backend that closes takes back the callback that it registered while it opened."""
    source = """
        import atexit, tracelet

        class Vendor(tracelet.Backend):
            name = "vendor"
            def abandon(self): print("abandoned")
            def open(self, run): atexit.register(self.abandon)
            def write(self, batch): pass
            def close(self, status, exit_code): atexit.unregister(self.abandon)

        atexit.register(lambda: experiment.log_metric("loss", 1.0))
        experiment = tracelet.start_logging(backend=Vendor())
    """
    ended = run_program(source)
    assert (0, "") == (ended.returncode, ended.out), ended.err


def test_the_run_leaves_atexit_as_it_was():
    """Its functions are wrapped during a run only."""
    source = """
        import atexit, tracelet

        before = atexit.register, atexit.unregister
        experiment = tracelet.start_logging(backend="csv")
        experiment.stop()
        assert before == (atexit.register, atexit.unregister)
    """
    ended = run_program(source)
    assert 0 == ended.returncode, ended.err


def test_wandb_has_the_point_of_an_exit_callback(tmp_path):
    """wandb registers callbacks when it is imported and when it connects; one ends its service process."""
    source = """
        import atexit, sys
        import wandb
        from torch.utils.tensorboard import SummaryWriter
        import tracelet

        atexit.register(lambda: writer.add_scalar("final", 1.0, 1))
        tracelet.start_logging(backend="wandb")
        writer = SummaryWriter("logs")
        writer.add_scalar("final", 0.0, 0)
        sys.exit(3)
    """
    ended = run_program(source, WANDB_DIR=str(tmp_path))
    assert 3 == ended.returncode, ended.err
    scalars = wandb_store.stored(tmp_path).scalars
    assert [(0, 0.0), (1, 1.0)] == [(step, value) for name, step, value, _ in scalars if name == "final"]


def test_an_installed_program_logs_in_its_callbacks(tmp_path):
    """Its package is in site-packages, and its callback from before the run."""
    package = tmp_path / "site-packages"
    package.mkdir()
    (package / "trainer.py").write_text(
        textwrap.dedent("""
            import atexit, tracelet

            def finish():
                experiment.log_metric("final", 1.0, 1)

            atexit.register(finish)
            experiment = tracelet.start_logging(backend="csv")
        """)
    )
    ended = run_program("import sys; sys.path.insert(0, sys.argv[1]); import trainer", package)
    assert 0 == ended.returncode, ended.err
    assert [1.0] == csv_values(the_run(), "final")


def test_a_callback_that_cannot_be_compared_is_called():
    """`atexit.unregister` compares with every callback, and lets its error out."""
    source = """
        import atexit, tracelet

        class Saver:
            def __init__(self, name): self.name = name
            def __call__(self): print(self.name)
            def __eq__(self, other): return self.name == other.name

        atexit.register(Saver("early"))
        experiment = tracelet.start_logging(backend="csv")
        atexit.register(Saver("late"))
        experiment.log_metric("loss", 1.0, 1)
    """
    ended = run_program(source)
    assert (0, "late\nearly\n") == (ended.returncode, ended.out), ended.err
    assert [1.0] == csv_values(the_run())
    assert ("finished", 0) == ending(the_run())
