"""A run, or several side by side, as one HTML page that needs nothing from elsewhere and sends nothing anywhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from tracelet.errors import ConfigurationError, TraceletError
from tracelet.runs.comparison import Comparison
from tracelet.runs.media import Gallery
from tracelet.runs.page.comparison_page import comparison_page
from tracelet.runs.page.run_page import run_page
from tracelet.runs.report import RunReport

__all__ = ["write_comparison", "write_run"]


def write_run(report: RunReport, gallery: Gallery, path: Path) -> None:
    """Write the page of a run; `gallery` has seen its records.

    Raises:
        ConfigurationError: `path` is no HTML file.
        TraceletError: the file cannot be written.
    """
    _write(path, run_page(report, gallery))


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page of several runs side by side.

    Raises:
        ConfigurationError: `path` is no HTML file.
        TraceletError: the file cannot be written.
    """
    _write(path, comparison_page(comparison))


def _write(path: Path, parts: Iterable[str]) -> None:
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigurationError(f"the page is an HTML file; give a name that ends in .html, not {str(path)!r}")
    target = Path(os.path.realpath(path))  # what a link leads to, and not the link
    beside = target.with_name(f".{os.getpid()}.part")
    try:
        with open(beside, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(parts)
        os.replace(beside, target)
    except OSError as error:
        raise TraceletError(f"cannot write the page {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
