"""Delivery against a model of it: whatever happens in whatever order, every record arrives once and is counted."""

from delivery.delivering import DeliveryModel, quick
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test


def test_delivery_does_what_its_model_says():
    """Outages, refusals, kills, a full disk, a store that lags, forgets or takes a detour, in any order."""
    with quick():
        run_state_machine_as_test(DeliveryModel, settings=settings(max_examples=150, stateful_step_count=25))
