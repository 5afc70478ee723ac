"""For whoever tests with tracelet: a backend in memory, sample records, and the exam that every backend sits.

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
