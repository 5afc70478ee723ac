"""TensorBoard: write a run's event files, one folder for each writer, and other files beside them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from tracelet import records as r
from tracelet.backends.capabilities import ViewerCommand, Viewing
from tracelet.backends.file_names import copy, safe_path
from tracelet.backends.folder import FolderBackend, FolderConfig, payload_path
from tracelet.backends.presentation import record_files
from tracelet.backends.tensorboard import events
from tracelet.filesystem import make_private

_PARAMS, _PROJECTOR = "params.json", "projector_config.pbtxt"

_SHOWN_AS: dict[type[r.Record], str] = {
    r.Scalar: "Scalars",
    r.Params: "HParams; exactly in `params.json`",
    r.Histogram: "Histograms, Distributions",
    r.Image: "Images",
    r.Video: "Images, if it is a GIF; others under `files/video`",
    r.Audio: "Audio",
    r.Text: "Text",
    r.Table: "Text, as a table; exactly under `files/table`",
    r.PRCurve: "PR Curves",
    r.Mesh: "Mesh",
    r.Embedding: "Projector",
    r.Graph: "Graphs",
    r.Layout: "Custom Scalars",
    r.Tensor: "the event file, without a page",
    r.RawSummary: "its own plugin",
    r.Artifact: "`artifacts/`",
    r.Summary: "`summary.json`",
    r.Tags: "`run.json`",
    r.Alert: "`alerts.jsonl`",
}


class TensorBoardConfig(FolderConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`dir` is the log directory; default: the folder `tensorboard` in the run's folder.

    If `dir` holds another run, its subfolder `<run id>` is used.
    """


class TensorBoardBackend(FolderBackend, Viewing):
    """Write event files, for code without a SummaryWriter. `tensorboard --logdir` shows them.

    TensorBoard shows float32 scalars. `tracelet import` reads the exact float64 from these files.
    """

    name = "tensorboard"
    Config = TensorBoardConfig
    accepts: ClassVar[Mapping[type[r.Record], str]] = _SHOWN_AS
    merged_files = (_PARAMS,)
    view_package = "tensorboard"

    @classmethod
    def view_config(cls, store: Path, run: r.RunInfo) -> dict[str, Any]:
        """Return a folder named as the run; a second run of that name gets a subfolder."""
        parts = (run.project or "default", run.name or run.run_id, *([] if run.is_primary else [run.label or ""]))
        return {"dir": str(store.joinpath(*(safe_path(part.replace("/", "-")) for part in parts)))}

    @classmethod
    def view_command(cls, store: Path, host: str, port: int) -> ViewerCommand:
        options = ("--logdir", str(store), "--host", host, "--port", str(port), "--reload_interval", "1")
        return ViewerCommand((sys.executable, "-m", "tensorboard.main", *options))

    def read_folder(self) -> None:
        self._places: dict[str, str] = {}
        # The time orders the files of several imports; the name is the same after a kill.
        self._file_name = f"events.out.tfevents.{max(0, int(self.created)):010d}.tracelet"
        self._header = events.header(self.created)

    def write_record(self, record: r.Record) -> None:
        place, tag = self._place(record)
        data = b"".join(events.events(record, tag))
        if data:
            self.append(f"{place}{self._file_name}", data, header=self._header)
        if isinstance(record, r.Params):
            self.merge(_PARAMS, record.values)
        elif isinstance(record, r.Embedding):
            self._write_embedding(record, place, tag)
        elif isinstance(record, r.Table) or not data:
            self._write_files(record)

    def _place(self, record: Any) -> tuple[str, str]:
        """Return the folder of the record's writer, with a slash, and its tag there."""
        tag = getattr(record, "tag", "")
        writer = record.writer if not tag or tag.startswith(f"{record.writer}/") else ""
        if writer not in self._places:
            self._places[writer] = f"{safe_path(writer)}/" if writer else ""
            make_private(self.folder / self._places[writer])
        tag = tag[len(writer) + 1 :] if writer else tag
        return self._places[writer], tag.encode("utf-8", "backslashreplace").decode()

    def _write_embedding(self, record: r.Embedding, place: str, tag: str) -> None:
        """Write the files that the projector reads, as torch does (torch/utils/tensorboard/_embedding.py)."""
        encoded = tag.replace("%", "%25").replace("/", "%2f").replace("\\", "%5c")
        below = f"{r.shown_step(record.step):05d}/{encoded}"
        make_private(self.folder / place / below)
        for name, part in zip(record.names, record.parts, strict=True):
            path = self.folder / place / below / name
            copy(payload_path(part), path)
            os.utime(path, (record.wall_time, record.wall_time))
        entry = events.projector_entry(tag, r.shown_step(record.step), below, record.names)
        self.append(f"{place}{_PROJECTOR}", entry)

    def _write_files(self, record: Any) -> None:
        payloads, _ = record_files(record)
        below = f"files/{r.kind(record)}/{safe_path(record.tag)}/{r.shown_step(record.step)}-{record.wall_time!r}"
        for index, (name, payload) in enumerate(payloads.items()):
            path = self.folder / f"{below}{f'-{index}' * (len(payloads) > 1)}{PurePosixPath(name).suffix}"
            make_private(path.parent)
            copy(payload_path(payload), path)
