"""Show runs in a vendor's own viewer: deliver them to a store beside the runs, and start its server."""

from __future__ import annotations

from tracelet.view.server import ViewerServer
from tracelet.view.store import ViewerStore, import_events, view_folder

__all__ = ["ViewerServer", "ViewerStore", "import_events", "view_folder"]
