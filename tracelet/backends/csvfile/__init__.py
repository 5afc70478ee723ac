"""Write plain files: CSV, JSON lines, and media in their own formats."""

from tracelet.backends.csvfile.adapter import CsvBackend, CsvConfig

__all__ = ["CsvBackend", "CsvConfig"]
