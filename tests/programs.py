"""Programs run to their end in a process of their own, each with a deadline."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from tracelet.journal.store import JournalReader

DEADLINE = 90


def run_program(source, *arguments, deadline=DEADLINE, options=(), **environment):
    """The finished program: `returncode`, `stdout`, `stderr`, and how long it took as `seconds`."""
    began = time.monotonic()
    with started(source, *arguments, options=options, **environment) as program:
        program.out, program.err = program.communicate(timeout=deadline)
    program.seconds = time.monotonic() - began
    return program


@contextlib.contextmanager
def started(source, *arguments, options=(), preexec=None, **environment):
    """A program that runs; whatever happens, it is not left behind."""
    command = [sys.executable, *options, "-c", textwrap.dedent(source), *map(str, arguments)]
    pipe = subprocess.PIPE
    program = subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env={**os.environ, **environment},
        preexec_fn=preexec,
    )
    try:
        yield program
    finally:
        if program.poll() is None:
            program.kill()
            program.wait()
        with contextlib.suppress(BrokenPipeError):
            program.stdin.close()
        program.stdout.close()
        program.stderr.close()


def signalled(source, *signals, deadline=DEADLINE):
    """The program, which gets `signals` each time it has printed a line, after its end."""
    with started(source) as program:
        for number in signals:
            assert program.stdout.readline(), program.stderr.read()
            program.send_signal(number)
        program.out, program.err = program.communicate(timeout=deadline)
    return program


def the_run():
    """The folder of the one run below TRACELET_DIR."""
    (journal,) = Path(os.environ["TRACELET_DIR"]).glob("*/*/journal.db")
    return journal.parent


def ending(folder):
    """(status, exit code) as the journal has them."""
    with JournalReader(folder) as reader:
        facts = reader.facts()
    return facts["status"], facts.get("exit_code")


def csv_values(folder, tag="loss"):
    with open(folder / "csv" / "scalars.csv", encoding="utf-8", newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["tag"] == tag]


def journal_values(folder, tag="loss"):
    with JournalReader(folder) as reader:
        return [record.value for record in reader.records() if getattr(record, "tag", None) == tag]


KILLED = -int(signal.SIGTERM)
