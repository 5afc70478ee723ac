"""The memory backend sits the exam, and shows what a program said."""

import re

import pytest
from support import REPOSITORY

from tracelet.records import Alert, Artifact, Histogram, Image, Params, Scalar, Summary, Tags, Text, kind, shown_step
from tracelet.testing import BackendContract, MemoryBackend, Stored, deliver, run_info, sample_records


class TestMemory(BackendContract):
    def make_backend(self, tmp_path):
        # Its store is the object itself: the same one is opened again.
        self.backend = getattr(self, "backend", None) or MemoryBackend()
        return self.backend

    def read_back(self, tmp_path):
        backend, params, summary = self.backend, {}, {}
        for record in backend.of(Params):
            params.update(record.values)
        for record in backend.of(Summary):
            summary.update(record.values)
        files = {}
        for one in backend.of(Artifact):
            for file in one.files:
                if file.name != "gone.png":
                    files[one.name + file.name if one.name.endswith("/") else one.name] = backend.data(file)
        counts = {}
        for record in backend.records:
            counts[kind(record)] = counts.get(kind(record), 0) + 1
        return Stored(
            scalars=[(one.tag, shown_step(one.step), one.value, one.wall_time) for one in backend.of(Scalar)],
            params=params,
            texts=[(one.tag, shown_step(one.step), one.text) for one in backend.of(Text)],
            images={(one.tag, one.step): backend.data(one.data) for one in backend.of(Image) if one.tag != "gone"},
            histograms=[(one.tag, one.step, one.limits, one.counts) for one in backend.of(Histogram)],
            artifacts=files,
            summary=summary,
            tags=list(dict.fromkeys(tag for one in (backend.run, *backend.of(Tags)) for tag in one.tags)),
            alerts=[(one.title, one.text, one.level) for one in backend.of(Alert)],
            counts=counts,
        )


def test_records_stay_in_the_order_of_the_program(tmp_path):
    """`records` is what was handed over, the same objects, across kinds and batches."""
    backend, records = MemoryBackend(), sample_records(tmp_path)
    backend.open(run_info(tmp_path))

    deliver(backend, records, size=3)

    assert records == backend.records


def test_status_and_run_are_kept(tmp_path):
    """What `open` and `close` were told can be asked afterwards."""
    backend, run = MemoryBackend(), run_info(tmp_path)
    backend.open(run)
    assert None is backend.status
    backend.close("failed", 3)
    assert (run, "failed", 3) == (backend.run, backend.status, backend.exit_code)


def test_payloads_can_be_read_before_and_after_the_journal(tmp_path):
    """`data` reads the bytes of a caller and the file of the spool alike."""
    picture = next(record for record in sample_records(tmp_path) if isinstance(record, Image))
    backend = MemoryBackend()
    assert b"abc" == backend.data(b"abc")
    assert picture.data.size == len(backend.data(picture.data))


def test_the_backend_of_the_docs_passes_the_exam(tmp_path):
    """What docs/backends/write-your-own.md shows is complete, and is as short as it says."""
    page = REPOSITORY / "docs" / "backends" / "write-your-own.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    namespace = {}
    exec(blocks[0], namespace)
    exec(blocks[-1], namespace)
    assert blocks[0][blocks[0].index("class LinesBackend") :].count("\n") < 40

    questions = [name for name in dir(BackendContract) if name.startswith("test_")]
    for question in questions:
        (tmp_path / question).mkdir()
        getattr(namespace["TestLines"](), question)(tmp_path / question)
    assert len(questions) > 15


def test_a_backend_that_loses_or_doubles_fails_the_exam(tmp_path):
    """The exam has teeth: each of these defects is found by a question."""

    class Forgets(MemoryBackend):
        def write(self, batch):
            super().write(batch[1:])

    class Doubles(MemoryBackend):
        def write(self, batch):
            super().write([*batch, *batch])

    class Sorts(MemoryBackend):
        def write(self, batch):
            super().write(sorted(batch, key=lambda record: getattr(record, "step", None) or 0))

    class Rounds(MemoryBackend):
        def write(self, batch):
            super().write([type(one)(one.tag, one.value + 0.0, one.step, one.wall_time) for one in batch])

    class Hurries(MemoryBackend):
        def durable(self):
            return 10**9

    class Leaks(MemoryBackend):
        def write(self, batch):
            for record in batch:
                if isinstance(record, Image):
                    self.data(record.data)[0]
                    raise KeyError(record.tag)
            super().write(batch)

    found = {
        Forgets: "test_repeated_points_are_kept",
        Doubles: "test_batches_of_one",
        Sorts: "test_steps_are_kept_as_given",
        Rounds: "test_floats_are_kept_to_the_bit",
        Hurries: "test_durable_ends_at_the_last_record",
        Leaks: "test_every_kind_is_taken_or_filtered",
    }
    for defect, question in found.items():
        exam = TestMemory()
        exam.backend = defect()
        (tmp_path / question).mkdir()
        with pytest.raises((AssertionError, KeyError)):
            getattr(exam, question)(tmp_path / question)
