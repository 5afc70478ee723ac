"""`tracelet run`: a program under a run, without one line of it changed, and without one frame of ours below it.

`command` turns this process into the interpreter that was asked for, with `first` in front of its PYTHONPATH; there
`first/sitecustomize.py` has `beginning` wait for the first line of the main module, and takes itself away.
"""

PLAN = "_TRACELET_RUN"
"""Variable that tells the new interpreter how to begin; the program does not see it."""
PYTHONPATH_BEFORE = "_TRACELET_PYTHONPATH"
