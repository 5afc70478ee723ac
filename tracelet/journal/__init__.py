"""Store a run on disk: one SQLite file of record batches, and its payload files."""

from tracelet.journal.store import JournalReader

__all__ = ["JournalReader"]
