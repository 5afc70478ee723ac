"""The names of ezpz in MLflow do not depend on how records are cut into batches."""

from tracelet.backends.base import Batch
from tracelet.backends.mlflow.layout import EzpzLayout
from tracelet.records import Params, Scalar


def names(layout, records, first):
    batch = layout.renamed(Batch.up_to(records, first + len(records)))
    return [record.tag for record in batch]


def test_a_metric_beside_its_mean_is_the_local_one():
    """Only in the same call. A batch may end within a call, and may be repeated after the next one."""
    records = [
        *(Scalar("loss/mean", 1.0, 0, 10.0), Scalar("loss", 1.0, 0, 10.0), Scalar("acc", 1.0, 0, 10.0)),
        *(Scalar("loss", 1.0, 1, 11.0), Scalar("loss/meaning", 1.0, 1, 11.0)),
        *(Scalar("loss/std", 1.0, 1, 12.0), Scalar("loss", 1.0, 1, 12.0)),
    ]
    expected = ["loss/mean", "loss/local", "acc", "loss", "loss/meaning", "loss/std", "loss/local"]
    for size in range(1, len(records) + 1):
        layout, found = EzpzLayout(), []
        for start in range(0, len(records), size):
            found += names(layout, records[start : start + size], start)
        assert expected == found
        assert expected[1:] == names(layout, records[1:], 1)


def test_the_memory_for_calls_is_bounded():
    layout = EzpzLayout()
    for step in range(11_000):
        names(layout, [Scalar("x/max", 1.0, step, float(step))], step)
    assert len(layout._aggregated) <= 10_000


def test_params_have_the_prefix_of_their_origin():
    batch = Batch.up_to([Params({"lr": 1}, 0.0), Params({"ezpz_version": 1, "ezpz.rank": 0, "day": 2}, 0.0, "ezpz")], 2)
    found = [dict(record.values) for record in EzpzLayout().renamed(batch)]
    assert [{"config.lr": 1}, {"ezpz.version": 1, "ezpz.rank": 0, "ezpz.day": 2}] == found
