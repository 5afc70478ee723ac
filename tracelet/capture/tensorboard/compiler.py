"""Keep torch.compile out of tracelet's code, as it keeps out of torch.utils.tensorboard."""

from __future__ import annotations

from types import ModuleType

MODULE = "torch._dynamo.trace_rules"


def skip_tracelet(trace_rules: ModuleType) -> None:
    """Add tracelet to the packages that are called, not traced: a wrapper adds no warning and no graph break.

    tracelet stays on the list after the run. Do nothing while another thread imports the module: the import hook calls
    this again.
    """
    check_file = getattr(trace_rules, "check_file", None)
    if check_file is not None and not check_file(__file__).skipped:
        trace_rules.add(__name__.partition(".")[0])
