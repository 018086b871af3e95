"""Loads the message of an ONNX file, with nodes in the place of calls of its own functions."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, Message

from albert_runtime.errors import ArtifactError

# Programs of large ALBERTs have some thousands.
_MAX_NODES = 1 << 18

_Name = tuple[str, str, str]


def load_model(path: Path) -> onnx.ModelProto:
    """The model of a file, external data not read, without functions. ArtifactError if it is damaged."""
    try:
        model = onnx.load(str(path), load_external_data=False)
        if not _is_text(model):
            raise ArtifactError(f"{path} is damaged: a name in it is no UTF-8")
        return _inlined(model) if model.functions else model
    except (DecodeError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{path} is no ONNX file, or it is damaged ({error})") from None


def _is_text(message: Message) -> bool:
    """Whether all strings are; protobuf leaves those that are not as bytes."""
    for field, value in message.ListFields():
        values = [value] if isinstance(value, str | bytes | Message) else value
        if field.type == field.TYPE_STRING and not all(isinstance(one, str) for one in values):
            return False
        if field.type == field.TYPE_MESSAGE and not all(map(_is_text, values)):
            return False
    return True


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without functions of its own.

    Raises ValueError if they call themselves, or each other so often that nothing of use comes of it.
    """
    bodies = {(one.domain, one.name, one.overload): list(_nodes(one.node)) for one in model.functions}
    sizes: dict[_Name, int] = {}
    for name in bodies:
        _measure(name, bodies, sizes)
    if sum(sizes.get(_called(node), 1) for node in _nodes(model.graph.node)) > _MAX_NODES:
        raise ValueError(f"its functions make more than {_MAX_NODES} nodes")
    return onnx.inliner.inline_local_functions(model)


def _measure(name: _Name, bodies: Mapping[_Name, list[onnx.NodeProto]], sizes: dict[_Name, int]) -> None:
    """Add to ``sizes`` how many nodes a function makes, and all that it calls."""
    path = [name]
    while path:
        calls = {_called(node) for node in bodies[path[-1]]} & bodies.keys()
        if not calls.isdisjoint(path):
            raise ValueError(f"its function {path[-1][1]!r:.60} calls itself")
        waiting = calls - sizes.keys()
        if waiting:
            path.append(waiting.pop())
        else:
            done = path.pop()
            sizes[done] = 1 + sum(sizes.get(_called(node), 1) for node in bodies[done])


def _called(node: onnx.NodeProto) -> _Name:
    return node.domain, node.op_type, node.overload


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes and those of the graphs within them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)
