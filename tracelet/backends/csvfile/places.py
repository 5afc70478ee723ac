"""Where a person finds each kind of record in a folder of plain files; `CsvBackend._write_one` puts it there."""

from __future__ import annotations

from tracelet.records import (
    Alert,
    Artifact,
    Audio,
    Embedding,
    Graph,
    Histogram,
    Image,
    Layout,
    Mesh,
    Params,
    PRCurve,
    RawSummary,
    Record,
    Scalar,
    Summary,
    Table,
    Tags,
    Tensor,
    Text,
    Video,
)

PLACES: dict[type[Record], str] = {
    Scalar: "`scalars.csv`, `metrics.csv`",
    Params: "`config.json`",
    Histogram: "`histograms.jsonl`",
    Text: "`texts.jsonl`",
    Table: "`tables/<tag>.csv`",
    PRCurve: "`pr_curves.jsonl`",
    Artifact: "`artifacts/`",
    Summary: "`summary.json`",
    Tags: "`run.json`",
    Alert: "`alerts.jsonl`",
    **dict.fromkeys(
        (Image, Video, Audio, Tensor, Mesh, Embedding, Graph, Layout, RawSummary), "`media/`, listed in `media.csv`"
    ),
}
