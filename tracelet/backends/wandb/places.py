"""Where a person finds each kind of record in Weights & Biases; `OpenRun.send` puts it there."""

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
    Scalar: "a row of the history, over `global_step`",
    Params: "`run.config`",
    Histogram: "`wandb.Histogram`; the exact buckets in a file of the run",
    Image: "a panel of images",
    Video: "a panel of videos",
    Audio: "a panel of sounds",
    Text: "an HTML panel",
    Table: "`wandb.Table`",
    PRCurve: "a precision-recall plot",
    Artifact: "an artifact",
    Summary: "`run.summary`",
    Tags: "`run.tags`",
    Alert: "an alert of the run",
    **dict.fromkeys((Tensor, Mesh, Embedding, Graph, Layout, RawSummary), "an artifact, named by its kind and tag"),
}
