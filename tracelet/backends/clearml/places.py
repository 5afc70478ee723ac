"""Where a person finds each kind of record in ClearML; `Events.record` puts it there."""

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
    Scalar: "a point of a scalar plot",
    Params: "hyper-parameters, section General",
    Histogram: "a plot of bars",
    Image: "a debug sample",
    Video: "a debug sample",
    Audio: "a debug sample",
    Text: "a debug sample, a .md file",
    Table: "a plot of a table",
    PRCurve: "a plot",
    Artifact: "an artifact",
    Summary: "single values of the plot Summary; all of them in the configuration object `tracelet_summary`",
    Tags: "tags of the task",
    Alert: "a debug sample, a .md file",
    **dict.fromkeys((Tensor, Mesh, Embedding, Graph, Layout, RawSummary), "debug samples: its files, and a JSON file"),
}
