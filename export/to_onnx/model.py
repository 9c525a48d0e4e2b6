"""ONNX models of the graph: all time steps unrolled, from frames or events, or one step at a time.

Each is written operator by operator, passes the full checker with shape inference, and carries an `ExportHeader`. The
number of time steps is fixed, the size of the batch is free.

Where the header says "portable", a file takes one recording a call, has no texts, and uses operators and constants that
other runtimes than ONNX Runtime have, too: those of `operators.Body.portable`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from neuromoco.checkpoint import KEY
from neuromoco.export.to_onnx.descriptions import describe
from neuromoco.export.to_onnx.operators import Body
from neuromoco.export.to_onnx.tape import BATCH, Tape
from neuromoco.graph.nodes import LIF, Graph
from neuromoco.runtime.header import NEXT, ExportHeader
from neuromoco.runtime.onnx_guard.binning import COLUMNS, bin_events
from neuromoco.runtime.onnx_guard.operator_sets import OPSET, reduced


def unrolled(
    graph: Graph, header: ExportHeader, *, rates: bool = False, taps: bool = False, opset: int = OPSET
) -> onnx.ModelProto:
    """All T time steps in one call.

    Inputs are `frames` float32 [T, N, P, H, W], or, where the header says events, the columns `t` int64 [E] in
    microseconds, `x`, `y`, `p` int32 [E] of one recording in order of time, and `sensor` int64 [2], rows and columns.
    Outputs are `logits` [N, classes] (mean over time), `logits_per_step` [T, N, classes] and `label`, a text per
    recording. `rates` adds the output `spike_rates` [N, layers of neurons], spikes per neuron and step; `taps` adds the
    spikes [T * N, ...] of every layer of neurons, under the layer's name.
    """
    tape = _tape(header, opset)
    steps, shape = header.frames.steps, graph.input.shape
    if header.input == "events":
        inputs, frames = _events_input(tape, header)
    else:
        inputs = [_value("frames", ir.DataType.FLOAT, (steps, tape.batch, *shape))]
        frames = tape.op("Reshape", inputs[0], tape.ints(-1, *shape))
    body = Body(graph, steps, tape, portable=header.portable)
    logits = body.write(frames)
    per_step = tape.op("Reshape", logits, tape.ints(steps, -1, *graph.output.shape), name="logits_per_step")
    mean = reduced(tape, "ReduceMean", per_step, 0, keepdims=0, name="logits")
    classes = graph.output.shape[0]
    batch = 1 if header.input == "events" else tape.batch
    outputs = [
        _typed(mean, ir.DataType.FLOAT, (batch, classes)),
        _typed(per_step, ir.DataType.FLOAT, (steps, batch, classes)),
    ]
    if not header.portable:
        outputs.append(_label(tape, mean, header.class_names, batch))
    if rates:
        outputs.append(_spike_rates(body, batch))
    if taps:
        outputs += [_tap(body, node) for node in graph.neurons]
    return _finish(tape, inputs, outputs, header)


def single_step(graph: Graph, header: ExportHeader, *, opset: int = OPSET) -> onnx.ModelProto:
    """One time step per call; the caller keeps the state.

    Inputs are `frames` float32 [N, P, H, W], the counts of one step, and `state.<layer>` [N, ...] for every layer of
    neurons. Outputs are `logits` [N, classes] of this step and the inputs of the next call, `next.state.<layer>`. A
    recording begins with zeros in every state: that is the reset. A state is the part of the membrane that remains for
    the next step, (1 - 1 / tau) * v[t].
    """
    tape = _tape(header, opset)
    frames = _value("frames", ir.DataType.FLOAT, (tape.batch, *graph.input.shape))
    names = {node.name: f"state.{node.name}" for node in graph.neurons}
    header = header.model_copy(update={"states": tuple(names.values())})
    states = {n.name: _value(names[n.name], ir.DataType.FLOAT, (tape.batch, *n.shape)) for n in graph.neurons}
    inputs = [frames, *states.values()]
    body = Body(graph, 1, tape, portable=header.portable, states=states)
    logits = tape.op("Identity", body.write(frames), name="logits")
    outputs = [_typed(logits, ir.DataType.FLOAT, (tape.batch, *graph.output.shape))]
    for node in graph.neurons:
        value = tape.op("Identity", states[node.name], name=NEXT + names[node.name])
        outputs.append(_typed(value, ir.DataType.FLOAT, (tape.batch, *node.shape)))
    return _finish(tape, inputs, outputs, header)


def check_onnx(model: onnx.ModelProto) -> None:
    """Runs the full checker with shape inference; raises onnx.checker.ValidationError for a defect of the writer."""
    onnx.checker.check_model(model, full_check=True)


def _tape(header: ExportHeader, opset: int) -> Tape:
    return Tape(opset, 1 if header.portable else BATCH)


def _events_input(tape: Tape, header: ExportHeader) -> tuple[list[ir.Value], ir.Value]:
    columns = {name: _value(name, ir.DataType(kind), ("E",)) for name, kind in COLUMNS.items()}
    # No default: onnxruntime-node hides inputs that have one, and ignores their values.
    sensor = _value("sensor", ir.DataType.INT64, (2,))
    return [*columns.values(), sensor], bin_events(tape, columns, sensor, header.frames)


def _label(tape: Tape, logits: ir.Value, names: Sequence[str], batch: str | int) -> ir.Value:
    winner = tape.op("ArgMax", logits, axis=1, keepdims=0)
    label = tape.op("Gather", tape.texts(names), winner, axis=0, name="label")
    return _typed(label, ir.DataType.STRING, (batch,))


def _tap(body: Body, node: LIF) -> ir.Value:
    value = body.joined(node.name)
    value.name = node.name  # of a single step, it has none yet
    return _typed(value, ir.DataType.FLOAT, (None, *node.shape))


def _spike_rates(body: Body, batch: str | int) -> ir.Value:
    tape, columns = body.tape, []
    for node in body.graph.neurons:
        spikes = tape.op("Reshape", body.joined(node.name), tape.ints(body.steps, -1, int(np.prod(node.shape))))
        columns.append(reduced(tape, "ReduceMean", spikes, 0, 2, keepdims=0))
    stacked = [tape.op("Unsqueeze", column, tape.ints(1)) for column in columns]
    rates = tape.op("Concat", *stacked, axis=1, name="spike_rates")
    return _typed(rates, ir.DataType.FLOAT, (batch, len(columns)))


def _finish(
    tape: Tape, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], header: ExportHeader
) -> onnx.ModelProto:
    if header.portable:
        for value in (*inputs, *outputs):
            value.doc_string = describe(header, value.name or "")
    model = tape.model(inputs, outputs, f"{header.encoder.name}, classes {', '.join(header.class_names)}")
    model.metadata_props[KEY] = header.model_dump_json()
    proto: onnx.ModelProto = ir.to_proto(model)
    return proto


def _value(name: str, kind: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(kind))


def _typed(value: ir.Value, kind: ir.DataType, shape: Sequence[int | str | None]) -> ir.Value:
    value.dtype, value.shape = kind, ir.Shape(shape)
    return value
