"""Plain files: csv, JSON lines, and what is neither as it is."""

from tracelet.backends.csvfile.adapter import CsvBackend, CsvConfig

__all__ = ["CsvBackend", "CsvConfig"]
