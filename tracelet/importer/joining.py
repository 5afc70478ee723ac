"""Join consecutive events that are one record: a graph and its metadata, and the parts of TensorFlow 2's meshes."""

from __future__ import annotations

from typing import Any

from tracelet.capture.tensorboard.meshes import mesh_data

_ALL_PARTS = 0b1110  # vertices, faces and colors: 1 << content_type


def is_open(event: Any) -> bool:
    """Return whether the next event may be a part of this one."""
    return event.WhichOneof("what") == "graph_def" or _missing(event) != 0


def is_incomplete(event: Any) -> bool:
    """Return whether a mesh has announced a part that is not there."""
    return any(data.components for data in _parts(event)) and _missing(event) != 0


def join(events: tuple[Any, ...], following: Any) -> tuple[Any, ...] | None:
    """Return `events` with `following`, or None if it is not a part of them."""
    if events[-1].WhichOneof("what") == "graph_def":
        return (*events, following) if following.WhichOneof("what") == "tagged_run_metadata" else None
    (event,) = events
    parts, more = _parts(event), _parts(following)
    names, types = {data.name for data in parts}, {data.content_type for data in parts}
    is_part = more and all(data.name in names and data.content_type not in types for data in more)
    if not is_part or following.step != event.step:
        return None
    event.summary.value.extend(following.summary.value)
    return events


def _missing(event: Any) -> int:
    """Return the bits of the parts that the mesh of an event lacks; 0 if it is no mesh."""
    parts = _parts(event)
    if not parts or len({data.name for data in parts}) > 1:
        return 0
    found = sum({1 << data.content_type for data in parts})
    return int((parts[0].components or _ALL_PARTS) & ~found)


def _parts(event: Any) -> list[Any]:
    """Return the mesh data of an event's values; nothing if one has another kind."""
    values = event.summary.value
    if not 1 <= len(values) <= 3 or values[0].WhichOneof("value") != "tensor":  # fast for scalars
        return []
    parts = [mesh_data(value) for value in values]
    return [] if None in parts else parts
