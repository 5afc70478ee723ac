"""The journal against a model of it: whatever happens in whatever order, it gives back what was committed."""

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from journal.journalling import JournalModel


def test_the_journal_does_what_its_model_says():
    """Appends, gaps, cursors, two readers, damage, kills and cut logs, in any order."""
    run_state_machine_as_test(JournalModel, settings=settings(max_examples=150, stateful_step_count=25))
