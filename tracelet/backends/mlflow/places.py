"""Where a person finds each kind of record in MLflow; `Files.put` puts it there."""

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
    Scalar: "a metric",
    Params: "a parameter; exactly in `tracelet/params.json`",
    Histogram: "a picture in the image view; the exact buckets under `tracelet/histogram`",
    Image: "the image view",
    Text: "a file under `tracelet/text`",
    Table: "the table view",
    PRCurve: "a picture in the image view; the exact rows under `tracelet/pr_curve`",
    Artifact: "an artifact",
    Summary: "numbers as metrics `summary/<name>`, words as tags; exactly in `tracelet/summary.json`",
    Tags: "tags of the run",
    Alert: "the tag `tracelet.alert`, and a file under `tracelet/alert`",
    **dict.fromkeys(
        (Video, Audio, Tensor, Mesh, Embedding, Graph, Layout, RawSummary), "files under `tracelet/<kind>`"
    ),
}
