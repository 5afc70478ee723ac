"""One browser for all tests that show a page."""

from __future__ import annotations

import pytest
from runs.browser import Browser, installed

from tracelet.runs import comparison, page, report
from tracelet.runs.media import Gallery


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed (Debian and Ubuntu: apt-get install chromium)")
    with Browser(program, tmp_path_factory.mktemp("browser") / "profile") as made:
        yield made


@pytest.fixture
def shown(browser, tmp_path):
    """`shown(run, ...)`: the page of a run, or of several side by side, opened."""
    opened = []

    def show(*runs, **look):
        path = tmp_path / "page.html"
        if len(runs) == 1:
            gallery = Gallery()
            page.write_run(report.read(runs[0].folder, see=gallery.add), gallery, path)
        else:
            page.write_comparison(comparison.compare([run.folder for run in runs]), path)
        opened.append(browser.open(path, **look))
        opened[-1].settle()
        return opened[-1]

    yield show
    for one in opened:
        one.close()
