"""Fork at each 10 ms of the first three seconds of a run, while a vendor is imported. Part of `make test-long`."""

import pytest
from programs import run_program

PROGRAMS = 30
PER_PROGRAM = 10
VENDORS = ("mlflow", "wandb", "clearml", "aim")


@pytest.mark.long
@pytest.mark.parametrize("delivery", ["thread", "process"])
@pytest.mark.parametrize("number", range(PROGRAMS))
def test_a_child_of_any_moment_can_import_the_vendor(number: int, delivery: str) -> None:
    """Each child imports all that its parent had begun to import, starts a run of its own, and ends."""
    vendor = VENDORS[number % len(VENDORS)]
    moments = [(number + PROGRAMS * index) / 100 for index in range(PER_PROGRAM)]
    ended = run_program(
        f"""
        import os, signal, sys, time
        import torch, tracelet

        started, children = time.monotonic(), []
        experiment = tracelet.start_logging(
            backend={vendor!r}, wait=False, delivery={delivery!r}, collect=["environment", "git", "system"]
        )
        for moment in {moments}:
            while time.monotonic() < started + moment:
                experiment.log_metric("loss", moment)
                time.sleep(0.001)
            child = os.fork()
            if child == 0:
                signal.alarm(200)  # ten children import at once
                for module in list(sys.modules):
                    __import__(module)
                import {vendor}
                tracelet.start_logging(run_id=f"child-{{os.getpid()}}", backend="csv").stop()
                os._exit(0)
            children.append(child)
        ended = [os.waitpid(child, 0)[1] for child in children]
        assert not any(ended), ended
        """,
        deadline=300,
        fresh=True,
        WANDB_MODE="offline",
        CLEARML_OFFLINE_MODE="1",
    )
    assert 0 == ended.returncode, ended.err
