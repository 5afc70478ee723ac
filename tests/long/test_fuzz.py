"""Random event files, journals, calls and signals: an hour in `make fuzz`, ten minutes in `make test-long`."""

import os
import random
import signal
import subprocess
import time

import pytest
from programs import KILLED, csv_values, ending, journal_values, run_program, started, the_run
from support import TESTS

SECONDS = float(os.environ.get("FUZZ_SECONDS", "200"))
"""The time of each target."""
SIGNALS = int(os.environ.get("SIGNALS", "100"))

pytestmark = pytest.mark.timeout(SECONDS + 300)


@pytest.mark.parametrize("target", ["event_files", "journals", "calls"])
def test_nothing_breaks(target: str) -> None:
    """Each try has a seed of its own, and all have one GiB of memory."""
    seed = int(os.environ.get("FUZZ_SEED", random.randrange(2**31)))
    source = f"from long.fuzzing import fuzz; fuzz({target!r}, {seed}, {SECONDS})"
    ended = run_program(source, deadline=SECONDS + 200, fresh=True, PYTHONPATH=str(TESTS))
    assert 0 == ended.returncode, f"{target}: {ended.out[-300:]}\n{ended.err[-5000:]}"
    print(f"{target} from seed {seed}: {ended.out.splitlines()[-1]}")


@pytest.mark.parametrize("number", range(SIGNALS))
def test_two_signals_at_random_moments_lose_nothing(number: int) -> None:
    """They come up to 30 ms apart, while the program logs, reads stats() or ends the run."""
    chance = random.Random()
    moment, pause = chance.uniform(0, 0.3), chance.uniform(0, 0.03)
    print(f"SIGTERM after {moment:.4f} s, and {pause:.4f} s later")
    source = """
        import itertools, tracelet

        experiment = tracelet.start_logging(backend="csv")
        print("ready", flush=True)
        for step in itertools.count():
            experiment.log_metric("loss", step, step)
            if step % 50 == 0:
                experiment.stats()
    """
    with started(source) as program:
        program.stdout.readline()
        time.sleep(moment)
        program.send_signal(signal.SIGTERM)
        time.sleep(pause)
        program.send_signal(signal.SIGTERM)
        try:
            _, errors = program.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            pytest.fail(f"hangs: {moment}, {pause}")
    assert KILLED == program.returncode, errors
    assert ("killed", 143) == ending(the_run())
    values = journal_values(the_run())
    assert list(range(len(values))) == values == csv_values(the_run())
