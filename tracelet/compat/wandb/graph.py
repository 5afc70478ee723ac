"""Define the graph of a model, which is logged as JSON text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tracelet.capture.values import to_plain
from tracelet.compat.wandb.base import Entry, Value
from tracelet.compat.wandb.errors import UnsupportedError
from tracelet.records import Text


class Node(Value):
    """A node of a graph. Its attributes, such as `id`, `name` and `class_name`, may be any plain values."""

    _log_type = "graph-node"

    def __init__(self, id: Any = None, name: str | None = None, node: Node | None = None, **attributes: Any) -> None:
        inherited = {} if node is None else {key: value for key, value in node._attributes.items() if key != "id"}
        given = {key: value for key, value in {"id": id, "name": name, **attributes}.items() if value is not None}
        self._attributes: dict[str, Any] = {"name": None, **inherited, **given}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._attributes.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self._attributes[name] = value

    def to_json(self, run: Any = None) -> dict[str, Any]:
        return self._attributes

    def __repr__(self) -> str:
        return repr(self._attributes)


class Edge(Value):
    """An edge between two nodes."""

    _log_type = "graph-edge"

    def __init__(self, from_node: Node, to_node: Node) -> None:
        self.from_node, self.to_node = from_node, to_node
        self.name: str | None = None

    def to_json(self, run: Any = None) -> list[Any]:
        return [self.from_node.id, self.to_node.id]


class Graph(Value):
    """A graph of nodes and edges."""

    _log_type = "graph-file"

    def __init__(self, format: str = "keras") -> None:
        self.format = format
        self.nodes: list[Node] = []
        self.nodes_by_id: dict[Any, Node] = {}
        self.edges: list[Edge] = []
        self.root: Node | None = None

    def __getitem__(self, nid: Any) -> Node:
        return self.nodes_by_id[nid]

    def add_node(self, node: Node | None = None, **node_kwargs: Any) -> Node:
        """Add a node, or a new one with the given attributes.

        Raises:
            ValueError: both are given.
        """
        if node is not None and node_kwargs:
            raise ValueError(f"add_node takes a node or its attributes, got both: {node} and {node_kwargs}")
        added = Node(**node_kwargs) if node is None else node
        self.nodes.append(added)
        self.nodes_by_id[added.id] = added
        return added

    def add_edge(self, from_node: Node, to_node: Node) -> Edge:
        edge = Edge(from_node, to_node)
        self.edges.append(edge)
        return edge

    @classmethod
    def from_torch(cls, module: Any) -> Graph:
        """Return the modules inside a torch module, with an edge from each to its children."""
        graph = cls("torch")
        for name, child in module.named_modules():
            own = dict(child.named_parameters(recurse=False))
            node = graph.add_node(
                id=name or type(child).__name__,
                name=name or type(child).__name__,
                class_name=str(child) if not any(True for _ in child.children()) else type(child).__name__,
                parameters=[[key, list(parameter.shape)] for key, parameter in own.items()],
                num_parameters=sum(parameter.numel() for parameter in own.values()),
            )
            parent, _, _ = name.rpartition(".")
            if graph.root is None:
                graph.root = node
            else:
                graph.add_edge(graph.nodes_by_id.get(parent, graph.root), node)
        return graph

    @classmethod
    def from_keras(cls, model: Any) -> Graph:
        raise UnsupportedError("wandb.Graph.from_keras is not supported. Add nodes and edges with add_node, add_edge")

    def _to_graph_json(self, run: Any = None) -> dict[str, Any]:
        return {
            "format": self.format,
            "nodes": [node.to_json() for node in self.nodes],
            "edges": [edge.to_json() for edge in self.edges],
        }

    def records(self, name: str, step: int | None, wall_time: float) -> Iterator[Entry]:
        yield Text(name, json.dumps(to_plain(self._to_graph_json())), step, wall_time)

    def described(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        return {"_type": self._log_type, **self._to_graph_json()}, {}
