"""`tracelet run`: start a run for an unmodified program, without a stack frame of tracelet below it.

`command` replaces this process with the program's interpreter and puts `site` first in its PYTHONPATH. There,
`site/sitecustomize.py` lets `bootstrap` wait for the first line of the main module, and then removes itself.
"""

PLAN = "_TRACELET_RUN"
"""Variable with the arguments of the run for the new interpreter. The program does not see it."""
PYTHONPATH_BEFORE = "_TRACELET_PYTHONPATH"
