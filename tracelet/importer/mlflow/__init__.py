"""Read the runs of an MLflow store: a folder `mlruns`, a database or a tracking server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tracelet.backends.mlflow.errors import translated
from tracelet.importer.mlflow.run import RunReader
from tracelet.importer.mlflow.store import opened
from tracelet.importer.past_run import PastRun
from tracelet.redaction import redacted_url

if TYPE_CHECKING:
    from tracelet.importer.stores import Selection

_PAGE = 100


def runs(source: str, selection: Selection) -> Iterator[PastRun]:
    """Yield the runs of a store, given by its tracking URI, or by the path of a folder or SQLite file.

    Raises:
        ConfigurationError: there is no store at `source`.
        BackendUnavailable: the server does not answer, or MLflow cannot read the store, as one with an older schema.
    """
    with contextlib.ExitStack() as undo:
        store = undo.enter_context(opened(source))
        with translated():
            experiments = {one.experiment_id: one.name for one in _pages(store.client.search_experiments)}
        if selection.experiment is not None:
            experiments = {id: name for id, name in experiments.items() if name == selection.experiment}
        for id, name in experiments.items():
            with translated():
                found = list(_pages(store.client.search_runs, [id], order_by=["attributes.start_time"]))
            for run in found:
                reader = RunReader(store, run, name, redacted_url(source))
                yield reader.run


def _pages(search: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(*arguments, max_results=_PAGE, page_token=token, **options)
        yield from page
        token = page.token
        if not token:
            return
