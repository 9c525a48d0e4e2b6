"""Writing ONNX operators one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from neuromoco.runtime.onnx_guard.operator_sets import AXES_AS_INPUT, OPSET

BATCH = "N"  # the name of the free axis
# The first version of the format with an operator set; below opset 15 it is 7.
IR_VERSIONS = {15: 8, 19: 9, 21: 10}


class Tape:
    """Operators in the order of computing, and their constants, each stored once."""

    def __init__(self, opset: int = OPSET, batch: str | int = BATCH) -> None:
        """Begins a file.

        Args:
            opset: the operator set that it uses.
            batch: number of recordings in a call, or the name of that axis where it is free.
        """
        self.opset, self.batch = opset, batch
        self._tape = ir.tape.Tape()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def op(self, kind: str, *inputs: ir.Value | None, name: str | None = None, **attributes: Any) -> ir.Value:
        """Adds an operator with one output, which gets the `name`."""
        attributes = {n: ir.tensor(v) if isinstance(v, np.ndarray) else v for n, v in attributes.items()}
        output = None if name is None else ir.Value(name=name)
        return self._tape.op(kind, inputs, attributes, name=name, output=output)

    def split(self, x: ir.Value, parts: int, shape: Sequence[int], name: str) -> Sequence[ir.Value]:
        """Equal parts [N, *shape] along the first axis."""
        # With a name for N, or runtimes would not know that it is the same in all parts, and would not fuse operators.
        kind = ir.TensorType(ir.DataType.FLOAT)
        outputs = [ir.Value(name=f"{name}.{i}", type=kind, shape=ir.Shape((self.batch, *shape))) for i in range(parts)]
        number = {"num_outputs": parts} if self.opset >= AXES_AS_INPUT else {}
        return self._tape.op_multi_out("Split", [x], {"axis": 0, **number}, outputs=outputs)

    def constant(self, value: Any, kind: type[np.generic] = np.float32, name: str | None = None) -> ir.Value:
        """An array in the file; equal arrays are stored once."""
        array = np.asarray(value, kind, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = name or f"constant.{len(self._constants)}"
            self._constants[key] = self._tape.initializer(ir.tensor(array, name=name), name)
        return self._constants[key]

    def ints(self, *values: int) -> ir.Value:
        """A vector of int64."""
        return self.constant(values, np.int64)

    def texts(self, values: Sequence[str]) -> ir.Value:
        """A vector of texts."""
        name = f"texts.{len(self._constants)}"
        encoded = ir.StringTensor([value.encode() for value in values], shape=ir.Shape((len(values),)), name=name)
        return self._tape.initializer(encoded, name)

    def model(self, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], doc: str) -> ir.Model:
        """The model of all operators."""
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports={"": self.opset},
            name="neuromoco",
            doc_string=doc,
        )
        version = max((ir for opset, ir in IR_VERSIONS.items() if opset <= self.opset), default=7)
        return ir.Model(graph, ir_version=version, producer_name="neuromoco")
