"""Tools for tests: an in-memory backend, sample records, and the contract tests of every backend.

class TestMyBackend(BackendContract):
    def make_backend(self, tmp_path):
        return MyBackend()

    def read_back(self, tmp_path):
        return Stored(scalars=[...], params={...}, ...)
"""

from tracelet.backends.memory import MemoryBackend
from tracelet.testing.contract import BackendContract, Stored, run_info
from tracelet.testing.deliver import Outcome, deliver
from tracelet.testing.samples import sample_records

__all__ = ["BackendContract", "MemoryBackend", "Outcome", "Stored", "deliver", "run_info", "sample_records"]
