"""python -m tracelet"""

from tracelet.cli import app

app(prog_name="tracelet")
