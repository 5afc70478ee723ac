"""Read objects back from the files of an artifact."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from tracelet.compat.wandb.errors import UnsupportedError
from tracelet.compat.wandb.manifest import Manifest

_TABLE = ".table.json"
_TABLES = "tracelet.compat.wandb.tables"


def restored(manifest: Manifest, name: str) -> Any:
    """Return the table that was added as `name`; None if there is none.

    Raises:
        UnsupportedError: it is a media object.
    """
    path = name if name.endswith(_TABLE) else name + _TABLE
    entry = manifest.entries.get(path)
    if entry is None or entry.local_path is None:
        kinds = [known for known in manifest.entries if known.startswith(f"{name}.") and known.endswith(".json")]
        if kinds:
            raise UnsupportedError(
                f"only tables are restored from an artifact; read the file with get_entry({kinds[0]!r})"
            )
        return None
    document = json.loads(Path(entry.local_path).read_text(encoding="utf-8"))
    columns, rows = document["columns"], document.get("data", document.get("rows", []))
    try:
        tables = importlib.import_module(_TABLES)
    except ModuleNotFoundError as error:
        if error.name != _TABLES:
            raise
        return document
    return tables.Table(columns=columns, data=rows, allow_mixed_types=True)
