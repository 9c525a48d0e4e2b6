"""Whether an ONNX file is one that our exporters write for its header: operators, names, shapes, sizes, work.

All shapes are computed before anything runs, for a batch of `BATCH` recordings. What counts events has sizes that
depend on them, and is compared with `binning`, operator by operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neuromoco.frames import POLARITIES
from neuromoco.runtime.header import NEXT, ExportHeader
from neuromoco.runtime.limits import Limits
from neuromoco.runtime.onnx_guard import binning
from neuromoco.runtime.onnx_guard.model import FLOAT, INT64, STRING, TYPES, Constant, Declared, Model, Node
from neuromoco.runtime.onnx_guard.operator_sets import OPSETS
from neuromoco.runtime.onnx_guard.rules import Shape, Value, need, outputs_of

BATCH = 64  # recordings that shapes are computed for; any other number gives sizes in proportion
SHORT = 16  # entries of a constant whose numbers are shapes, axes or indices


def check_model(model: Model, header: ExportHeader) -> None:
    """Checks a file against its header.

    Raises:
        ValueError: an operator, a name, a type or a shape that we do not write, or more memory or work than a network
            for such frames can need.
    """
    opset = model.opsets.get("", 0)
    fits = len(model.opsets) == 1 and opset in OPSETS
    need(fits, f"operator sets {model.opsets}; we write {OPSETS[0]} to {OPSETS[-1]}")
    need(len(header.class_names) >= 1, "no classes")
    counting = Counting(header, opset) if header.input == "events" else None
    batch = BATCH if counting is None and not header.portable else 1
    known = {name: Value(constant.shape, _short(constant)) for name, constant in model.constants.items()}
    inputs = {name: Value(shape) for name, shape in _inputs(model, header, batch).items()}
    given = [*known, *inputs, *(name for node in model.nodes for name in node.outputs)]
    need(len(set(given)) == len(given) and "" not in given, "two values of one name, or one without a name")
    known |= {} if counting else inputs  # what the network makes of events depends on their number
    budget = Budget(model, header, batch)
    for number, node in enumerate(model.nodes):
        try:
            found = counting.frames(node, model.constants) if counting else None
            if found is None:
                need(all(name in known for name in node.inputs), "takes a value that is not there yet")
                shapes, work = outputs_of(node, [known[name] for name in node.inputs])
                found = dict(zip(node.outputs, map(Value, shapes), strict=True))
                budget.spend(number, node, [value.size for value in found.values()], work, known)
            known |= found
        except ValueError as error:
            raise ValueError(f"operator {number} ({node.kind[:30]!r}): {error}") from None
    _check_outputs(model, header, batch, known)
    for declared in model.values:
        if declared.name in known:
            _check_shape(declared, known[declared.name].shape, batch)


def _short(constant: Constant) -> tuple[int, ...] | None:
    if constant.kind != INT64 or constant.numbers is None or constant.size > SHORT:
        return None
    return tuple(constant.numbers.ravel().tolist())


def _inputs(model: Model, header: ExportHeader, batch: int) -> dict[str, Shape]:
    """Inputs by name, each declared as the header says."""
    frames = header.frames
    pixels = (POLARITIES, frames.height, frames.width)
    declared = {value.name: value for value in model.inputs}
    wanted: dict[str, tuple[int, tuple[int | str, ...]]]
    side = 1 if header.portable else "N"
    if header.input == "events":
        wanted = {**{name: (kind, ("E",)) for name, kind in binning.COLUMNS.items()}, "sensor": (INT64, (2,))}
    elif header.target == "onnx":
        wanted = {"frames": (FLOAT, (frames.steps, side, *pixels))}
    else:
        wanted = {"frames": (FLOAT, (side, *pixels))}
        for name in header.states:
            sides = [n for n in declared[name].shape[1:] if isinstance(n, int) and n >= 1] if name in declared else []
            wanted[name] = (FLOAT, (side, *sides))
    need(len(declared) == len(model.inputs) and declared.keys() == wanted.keys(), f"inputs {list(declared)[:5]}")
    need(len(set(header.states)) == len(header.states), "states of the same name")
    for name, (kind, shape) in wanted.items():
        need(
            (declared[name].kind, declared[name].shape) == (kind, shape), f"input {name!r} is of another type or shape"
        )
    return {
        name: tuple(batch if side == "N" else int(side) for side in shape if side != "E")
        for name, (_, shape) in wanted.items()
    }


def _check_outputs(model: Model, header: ExportHeader, batch: int, known: Mapping[str, Value]) -> None:
    classes, outputs = len(header.class_names), {value.name: value for value in model.outputs}
    wanted: dict[str, tuple[int, Shape]] = {"logits": (FLOAT, (batch, classes))}
    if header.target == "onnx":
        wanted["logits_per_step"] = FLOAT, (header.frames.steps, batch, classes)
        wanted |= {} if header.portable else {"label": (STRING, (batch,))}
        if "spike_rates" in outputs and "spike_rates" in known:
            wanted["spike_rates"] = (FLOAT, (batch, *known["spike_rates"].shape[1:2]))
    else:
        wanted |= {NEXT + name: (FLOAT, known[name].shape) for name in header.states}
    need(len(outputs) == len(model.outputs) and outputs.keys() == wanted.keys(), f"outputs {list(outputs)[:5]}")
    for name, (kind, shape) in wanted.items():
        fits = name in known and known[name].shape == shape and outputs[name].kind == kind
        need(fits, f"output {name!r} is not {list(shape)} for {batch} recordings")
        _check_shape(outputs[name], shape, batch)


def _check_shape(declared: Declared, shape: Shape, batch: int) -> None:
    sides = tuple(batch if side == "N" else side for side in declared.shape)
    need(sides == shape, f"{declared.name!r} is declared as {list(declared.shape)}")


class Budget:
    """Memory and work that a network for such frames may need."""

    def __init__(self, model: Model, header: ExportHeader, batch: int) -> None:
        limits = Limits.of(header.frames, sum(constant.size for constant in model.constants.values()))
        self.in_value, self.at_a_time = batch * limits.in_value, batch * limits.at_a_time
        self.products, self.held = batch * limits.products, 0
        self.last_use = {name: number for number, node in enumerate(model.nodes) for name in node.inputs}
        self.constants = model.constants

    def spend(self, number: int, node: Node, sizes: list[int], work: int, known: Mapping[str, Value]) -> None:
        """Counts an operator's outputs and work; ValueError if it is too much."""
        need(max(sizes) <= self.in_value, f"{max(sizes):,} numbers in a value")
        self.held += sum(sizes)
        need(self.held <= self.at_a_time, f"{self.held:,} numbers at a time")
        self.products -= work
        need(self.products >= 0, "more work than a network of so many weights has")
        for name in set(node.inputs):
            if self.last_use[name] == number and name not in self.constants:
                self.held -= known[name].size


class Counting:
    """Recognises the operators that count events."""

    def __init__(self, header: ExportHeader, opset: int) -> None:
        self.opset = opset
        frames = header.frames
        self.shape = (frames.steps, POLARITIES, frames.height, frames.width)
        self._keys: dict[Any, int] = {}
        names = (*binning.COLUMNS, "sensor")
        self._ids: dict[str, int | None] = {name: self._add(name) for name in names}
        *columns, sensor = (self._add(name) for name in names)
        self._result = binning.bin_events(self, dict(zip(binning.COLUMNS, columns, strict=True)), sensor, frames)

    def frames(self, node: Node, constants: Mapping[str, Constant]) -> dict[str, Value] | None:
        """The frames by name, where a node gives them; nothing where it counts; None where it does neither."""
        for name in node.inputs:
            if name in constants and name not in self._ids:
                self._ids[name] = self._keys.get(_constant_key(constants[name]))
        attributes = {n: _constant_key(v) if isinstance(v, Constant) else v for n, v in node.attributes.items()}
        inputs = tuple(self._ids.get(name) for name in node.inputs)
        found = self._keys.get((node.kind, inputs, frozenset(attributes.items())))
        if found is None or len(node.outputs) != 1:
            return None
        (name,) = node.outputs
        self._ids[name] = found
        return {name: Value(self.shape)} if found == self._result else {}

    # What follows is a tape for `bin_events`, which gets numbers for values.

    def op(self, kind: str, *inputs: int, **attributes: Any) -> int:
        """An operator."""
        plain = {name: _plain(value) for name, value in attributes.items()}
        return self._add((kind, inputs, frozenset(plain.items())))

    def constant(self, value: Any, kind: type[np.generic] = np.float32) -> int:
        """An array."""
        return self._add(_array_key(np.asarray(value, kind)))

    def ints(self, *values: int) -> int:
        """A vector of int64."""
        return self.constant(values, np.int64)

    def _add(self, key: Any) -> int:
        return self._keys.setdefault(key, len(self._keys))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _array_key(value)
    return value.encode() if isinstance(value, str) else value


def _array_key(array: Any) -> Any:
    return array.dtype.str, array.shape, array.tobytes()


def _constant_key(constant: Constant) -> Any:
    if constant.numbers is None or len(constant.shape) > 1:  # weights are of more axes
        return None
    return np.dtype(TYPES[constant.kind]).str, constant.shape, constant.numbers.tobytes()
