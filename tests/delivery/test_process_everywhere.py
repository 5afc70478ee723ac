"""The workload with `delivery="process"` to all backends: each store is as if they had worked in the program."""

import pytest
from backends import test_every_backend
from backends.stores import READERS
from backends.test_every_backend import (  # noqa: F401 - collected here too, over the stores of this module
    Told,
    test_every_alert_is_in_the_store,
    test_every_artifact_is_in_the_store,
    test_every_final_figure_is_in_the_store,
    test_every_histogram_is_in_the_store,
    test_every_image_is_in_the_store,
    test_every_other_kind_is_in_the_store,
    test_every_param_is_in_the_store,
    test_every_point_is_in_the_store,
    test_every_record_is_delivered,
    test_every_tag_is_in_the_store,
    test_every_text_is_in_the_store,
    test_memory_has_what_the_program_said,
)

PROGRAM = """
    import json, pathlib, sys
    tests, backends = sys.argv[1], sys.argv[2].split(",")
    sys.path.insert(0, tests)
    import msgspec
    import tracelet
    from tracelet.journal.store import JournalReader
    from tracelet.journal.spool import Spool
    from backends.workload import log_everything

    folder = pathlib.Path.cwd()
    experiment = tracelet.start_logging(
        "all kinds", "fidelity", backends, flush_timeout=400, delivery="process", wait=False
    )
    said = log_everything(experiment, folder)
    experiment.stop()
    assert not {"wandb", "mlflow", "clearml", "aim"} & set(sys.modules), "a vendor was imported here"
    stats = {name: msgspec.to_builtins(one) for name, one in experiment.stats().backends.items()}
    with JournalReader(experiment.folder) as reader:
        records = [Spool(experiment.folder / "files").resolve(record) for record in reader.records()]
    (folder / "said.json").write_text(json.dumps([said, stats]))
    (folder / "truth.bin").write_bytes(msgspec.msgpack.encode(records))
"""


pytestmark = pytest.mark.timeout(2 * test_every_backend.DEADLINE)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The workload, said once, and delivered by a process beside the program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_every_backend, "PROGRAM", PROGRAM)
        return test_every_backend.run(tmp_path_factory.mktemp("process"), READERS, {})


@pytest.fixture(params=list(READERS))
def place(request, local):
    """Each store: its backend's name, and what the program said."""
    return request.param, local
