"""The compiled checksum is the one that both libraries write."""

import importlib
import os
import random

import numpy as np
import pytest
import tensorboardX.record_writer
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow

import tracelet
from tracelet.capture.tensorboard.checksum import IS_COMPILED, masked_crc32c
from tracelet.importer.tfrecord import frames


@pytest.mark.parametrize("reference", [pywrap_tensorflow.masked_crc32c, tensorboardX.record_writer.masked_crc32c])
def test_it_is_that_of_the_libraries(reference):
    sizes = [*range(70), 127, 128, 129, 1000, 8191, 8193, 20_001, *random.sample(range(5000), 50)]
    for piece in map(os.urandom, sizes):
        assert reference(piece) == masked_crc32c(piece)


def test_it_is_compiled_here():
    """Where no wheel of the library fits, it falls back to Python, and the writers keep their own."""
    assert IS_COMPILED


def bound():
    """What the two libraries compute checksums by."""
    names = "tensorboard.summary.writer.record_writer", "tensorboardX.record_writer"
    return [importlib.import_module(name).masked_crc32c for name in names]


def test_the_writers_have_it_while_a_run_is_active():
    """And their own before and after."""
    before = bound()
    with tracelet.start_logging():
        assert [masked_crc32c] * 2 == bound()
    assert before == bound()
    assert masked_crc32c not in before


def test_event_files_are_the_same_bytes(lib, tmp_path):
    """Length, checksum, data, checksum: all but the first record, which holds the time and the host."""

    def written(folder):
        with lib.SummaryWriter(str(tmp_path / folder)) as writer:
            for step in range(300):
                writer.add_scalar("loss", step * 0.1, step, walltime=12.5)
            writer.add_histogram("h", np.arange(1000.0), 1, walltime=12.5)
            writer.add_image("i", np.linspace(0, 1, 3 * 64 * 64).reshape(3, 64, 64), 1, walltime=12.5)
            writer.add_text("t", "words" * 1000, 1, walltime=12.5)
        (path,) = (tmp_path / folder).iterdir()
        first, *_ = frames(path)
        return path.read_bytes()[first.end :]

    plain = written("plain")
    with tracelet.start_logging():
        assert plain == written("carried")
    assert len(plain) > 20_000
