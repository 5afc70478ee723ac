"""The data types under wandb's names, as in `wandb.data_types`."""

from tracelet.compat.wandb.base import Media, Value
from tracelet.compat.wandb.base import Value as WBValue
from tracelet.compat.wandb.boxes import BoundingBoxes2D, Classes, ImageMask
from tracelet.compat.wandb.graph import Edge, Graph, Node
from tracelet.compat.wandb.histograms import Histogram
from tracelet.compat.wandb.linked_tables import EvalTable, JoinedTable, PartitionedTable
from tracelet.compat.wandb.media import Audio, Html, Image
from tracelet.compat.wandb.objects import Molecule, Object3D, Plotly, box3d
from tracelet.compat.wandb.tables import Table
from tracelet.compat.wandb.video import Video

BatchableMedia = Media

__all__ = [
    "Audio",
    "BatchableMedia",
    "BoundingBoxes2D",
    "Classes",
    "Edge",
    "EvalTable",
    "Graph",
    "Histogram",
    "Html",
    "Image",
    "ImageMask",
    "JoinedTable",
    "Media",
    "Molecule",
    "Node",
    "Object3D",
    "PartitionedTable",
    "Plotly",
    "Table",
    "Value",
    "Video",
    "WBValue",
    "box3d",
]
