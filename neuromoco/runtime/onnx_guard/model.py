"""An ONNX file as plain data: operators in order, constants, and the declared shapes. Needs numpy only.

The tables hold the fields of onnx.proto that our exporters write, and no others: no functions, no graphs within
operators, no data outside the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.runtime.onnx_guard.wire import BYTES, FIXED32, VARINT, Field, Table, message, text

MOST_NODES = 20_000
LARGEST_RANK = 8
MODEL: Table = {
    1: Field("ir_version", VARINT),
    2: Field("producer_name", BYTES),
    3: Field("producer_version", BYTES),
    7: Field("graph", BYTES),
    8: Field("opset", BYTES, repeated=True),
    14: Field("metadata", BYTES, repeated=True),
}
ENTRY: Table = {1: Field("key", BYTES), 2: Field("value", BYTES)}
OPSETS: Table = {1: Field("domain", BYTES), 2: Field("version", VARINT)}
GRAPH: Table = {
    1: Field("node", BYTES, repeated=True),
    2: Field("name", BYTES),
    5: Field("initializer", BYTES, repeated=True),
    10: Field("doc_string", BYTES),
    11: Field("input", BYTES, repeated=True),
    12: Field("output", BYTES, repeated=True),
    13: Field("value_info", BYTES, repeated=True),
}
NODE: Table = {
    1: Field("input", BYTES, repeated=True),
    2: Field("output", BYTES, repeated=True),
    3: Field("name", BYTES),
    4: Field("kind", BYTES),
    5: Field("attribute", BYTES, repeated=True),
}
ATTRIBUTE: Table = {
    1: Field("name", BYTES),
    2: Field("f", FIXED32),
    3: Field("i", VARINT),
    4: Field("s", BYTES),
    5: Field("t", BYTES),
    8: Field("ints", VARINT, repeated=True),
    20: Field("type", VARINT),
}
TENSOR: Table = {
    1: Field("dims", VARINT, repeated=True),
    2: Field("type", VARINT),
    4: Field("float_data", BYTES),
    5: Field("int32_data", BYTES),
    6: Field("texts", BYTES, repeated=True),
    8: Field("name", BYTES),
    9: Field("raw_data", BYTES),
}
VALUE: Table = {1: Field("name", BYTES), 2: Field("type", BYTES), 3: Field("doc_string", BYTES)}
TYPE: Table = {1: Field("tensor", BYTES)}
TENSOR_TYPE: Table = {1: Field("type", VARINT), 2: Field("shape", BYTES)}
SHAPE: Table = {1: Field("dim", BYTES, repeated=True)}
DIM: Table = {1: Field("size", VARINT), 2: Field("name", BYTES)}
# Numbers of TensorProto.DataType.
FLOAT, UINT8, INT8, INT32, INT64, STRING = 1, 2, 3, 6, 7, 8
TYPES = {FLOAT: np.float32, UINT8: np.uint8, INT8: np.int8, INT32: np.int32, INT64: np.int64, STRING: object}
# Number of AttributeProto.AttributeType -> field that holds the value.
KINDS = {1: "f", 2: "i", 3: "s", 4: "t", 7: "ints"}


@dataclass(frozen=True)
class Constant:
    """An array in the file.

    Attributes:
        kind: number of its type.
        shape: of the array.
        numbers: the array itself, if it is stored as raw bytes.
    """

    kind: int
    shape: tuple[int, ...]
    numbers: NDArray[Any] | None = None

    @property
    def size(self) -> int:
        """Number of its entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Node:
    """An operator."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]  # int, float, bytes, a tuple of int, or a Constant


@dataclass(frozen=True)
class Declared:
    """An input, an output or a value with a declared type."""

    name: str
    kind: int
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class Model:
    """What a file holds."""

    metadata: dict[str, str]
    opsets: dict[str, int]
    nodes: tuple[Node, ...]
    constants: dict[str, Constant]
    inputs: tuple[Declared, ...]
    outputs: tuple[Declared, ...]
    values: tuple[Declared, ...]


def read_metadata(raw: bytes) -> dict[str, str]:
    """The texts that an ONNX file carries, by name; ValueError if it is none, or damaged."""
    return _metadata(message(memoryview(raw), MODEL, "the model"))


def read_model(raw: bytes) -> Model:
    """Reads an ONNX file; ValueError if it is damaged, or has what our exporters do not write."""
    top = message(memoryview(raw), MODEL, "the model")
    graph = message(top.get("graph", memoryview(b"")), GRAPH, "the graph")
    if len(graph["node"]) > MOST_NODES:
        raise ValueError(f"{len(graph['node'])} operators; at most {MOST_NODES} are read")
    opsets = [message(entry, OPSETS, "an operator set") for entry in top["opset"]]
    constants = _by_name(map(_constant, graph["initializer"]))
    return Model(
        metadata=_metadata(top),
        opsets=_by_name((text(entry.get("domain")), int(entry.get("version", 0))) for entry in opsets),
        nodes=tuple(map(_node, graph["node"])),
        constants=constants,
        inputs=tuple(map(_declared, graph["input"])),
        outputs=tuple(map(_declared, graph["output"])),
        values=tuple(map(_declared, graph["value_info"])),
    )


def _metadata(top: dict[str, Any]) -> dict[str, str]:
    entries = [message(entry, ENTRY, "the metadata") for entry in top["metadata"]]
    return _by_name((text(entry.get("key")), text(entry.get("value"))) for entry in entries)


def _by_name(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = value
    return found


def _node(raw: memoryview) -> Node:
    node = message(raw, NODE, "an operator")
    return Node(
        kind=text(node.get("kind")),
        inputs=tuple(map(text, node["input"])),
        outputs=tuple(map(text, node["output"])),
        attributes=_by_name(map(_attribute, node["attribute"])),
    )


def _attribute(raw: memoryview) -> tuple[str, Any]:
    found = message(raw, ATTRIBUTE, "an attribute")
    name, field = text(found.pop("name", None)), KINDS.get(found.pop("type", 0), "")
    if not found["ints"]:
        found.pop("ints")
    if set(found) - {field} or (field != "ints" and field not in found):
        raise ValueError(f"attribute {name!r} has not the type that it states")
    if field == "ints":
        return name, tuple(found.get("ints", ()))
    value = found[field]
    return name, _constant(value)[1] if field == "t" else bytes(value) if field == "s" else value


def _constant(raw: memoryview) -> tuple[str, Constant]:
    """A name and an array, whose data has the length that its shape and type give."""
    found = message(raw, TENSOR, "an array")
    name, kind, shape = text(found.get("name")), found.get("type", 0), tuple(found["dims"])
    if kind not in TYPES:
        raise ValueError(f"array {name!r} has type {kind}, which we do not write")
    if len(shape) > LARGEST_RANK or any(side < 0 for side in shape):
        raise ValueError(f"array {name!r} has shape {list(shape)}")
    size, stored = math.prod(shape), [key for key in ("float_data", "int32_data", "raw_data") if key in found]
    if len(stored) + bool(found["texts"]) != 1 and size:
        raise ValueError(f"array {name!r} has its data {len(stored)} times")
    if kind == STRING:
        _check_length(name, len(found["texts"]), size)
        return name, Constant(kind, shape)
    if "int32_data" in found:  # numbers of one to ten bytes, of which the last is below 128
        if kind not in (UINT8, INT8, INT32):
            raise ValueError(f"array {name!r} has data of another type")
        _check_length(name, int(np.count_nonzero(np.frombuffer(found["int32_data"], np.uint8) < 0x80)), size)
        return name, Constant(kind, shape)
    if "float_data" in found and kind != FLOAT:
        raise ValueError(f"array {name!r} has data of another type")
    data, dtype = found[stored[0]] if stored else memoryview(b""), np.dtype(TYPES[kind])
    _check_length(name, len(data), size * dtype.itemsize)
    numbers = np.frombuffer(data, dtype.newbyteorder("<")).reshape(shape)
    if kind == FLOAT and not np.isfinite(numbers).all():
        raise ValueError(f"array {name!r} has numbers that are not finite")
    return name, Constant(kind, shape, numbers)


def _check_length(name: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise ValueError(f"array {name!r} has {found} bytes or texts instead of {wanted}")


def _declared(raw: memoryview) -> Declared:
    found = message(raw, VALUE, "a value")
    name = text(found.get("name"))
    kind = message(found.get("type", memoryview(b"")), TYPE, f"the type of {name!r}")
    tensor = message(kind.get("tensor", memoryview(b"")), TENSOR_TYPE, f"the type of {name!r}")
    shape = message(tensor.get("shape", memoryview(b"")), SHAPE, f"the shape of {name!r}")
    return Declared(name, tensor.get("type", 0), tuple(_sides(shape["dim"])))


def _sides(raw: list[memoryview]) -> Iterator[int | str | None]:
    for side in raw:
        found = message(side, DIM, "a side")
        yield found["size"] if "size" in found else text(found["name"]) if "name" in found else None
