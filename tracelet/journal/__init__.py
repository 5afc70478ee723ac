"""Store a run on disk: one SQLite file of record batches, and its payload files."""
