"""Write a run or a comparison as one HTML page, which loads and sends nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tracelet.errors import ConfigurationError, TraceletError
from tracelet.filesystem import replacing
from tracelet.runs.comparison import Comparison
from tracelet.runs.media import Gallery
from tracelet.runs.page.comparison_page import comparison_page
from tracelet.runs.page.run_page import run_page
from tracelet.runs.report import RunReport

__all__ = ["write_comparison", "write_run"]


def write_run(report: RunReport, gallery: Gallery, path: Path) -> None:
    """Write the page of a run. `gallery` must already contain its records.

    Raises:
        ConfigurationError: if `path` does not end in .html or .htm.
        TraceletError: if the file cannot be written.
    """
    _write(path, run_page(report, gallery))


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page of a comparison.

    Raises:
        ConfigurationError: if `path` does not end in .html or .htm.
        TraceletError: if the file cannot be written.
    """
    _write(path, comparison_page(comparison))


def _write(path: Path, parts: Iterable[str]) -> None:
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigurationError(f"the page must be an HTML file with a name ending in .html, got {str(path)!r}")
    target = Path(os.path.realpath(path))  # replace the target of a link, not the link
    try:
        with replacing(target, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(parts)
    except OSError as error:
        raise TraceletError(f"cannot write the page {path}: {error.strerror or error}") from error
