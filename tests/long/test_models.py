"""Check ten thousand examples of each model. Only `make test-long` runs these tests."""

import pytest
from delivery.delivering import DeliveryModel, quick
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from journal.journalling import JournalModel

pytestmark = pytest.mark.timeout(7200)
THOROUGH = settings(max_examples=10_000, derandomize=False, suppress_health_check=list(HealthCheck))


def test_the_journal_does_what_its_model_says() -> None:
    """Repeat tests/journal/test_store_model.py."""
    run_state_machine_as_test(JournalModel, settings=settings(THOROUGH, stateful_step_count=20))


def test_delivery_does_what_its_model_says() -> None:
    """Repeat tests/delivery/test_thread_model.py."""
    with quick():
        run_state_machine_as_test(DeliveryModel, settings=settings(THOROUGH, stateful_step_count=20))
