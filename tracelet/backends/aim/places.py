"""Where a person finds each kind of record in Aim; `OpenRun.put` puts it there."""

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
    Params: '`run["hparams"]`',
    Histogram: "a distribution",
    Image: "an image",
    Video: "an image, where it is a GIF; else a text and its file",
    Audio: "an audio, where it is wav, mp3 or flac; else a text and its file",
    Text: "a text",
    PRCurve: "a picture, with the exact rows",
    Artifact: "an artifact",
    Summary: '`run["summary"]`',
    Tags: "tags of the run",
    Alert: "a message of the run's logs",
    **dict.fromkeys(
        (Table, Tensor, Mesh, Embedding, Graph, Layout, RawSummary), "a text that says where its files are"
    ),
}
