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
    batch = 1 if header.input == "events" else tape.batch
    names = None if header.portable else header.class_names
    body = Body(graph, steps, tape, portable=header.portable)
    outputs = _outputs(body, frames, names, batch, rates=rates, taps=taps)
    return _finish(tape, inputs, outputs, header)


def unrolled_module(
    graph: Graph, steps: int, layout: str, class_names: Sequence[str] | None, *, taps: bool = False
) -> onnx.ModelProto:
    """All T time steps of any network in one call, without a header.

    The input is `frames` float32 [T, N, ...], or [N, T, ...] with layout "NT". Outputs are those of `unrolled`, of any
    shape; `label` is there if the classes have names.
    """
    tape, shape = Tape(), graph.input.shape
    sides = (steps, BATCH) if layout == "TN" else (BATCH, steps)
    frames = _value("frames", ir.DataType.FLOAT, (*sides, *shape))
    by_step = frames if layout == "TN" else tape.op("Transpose", frames, perm=[1, 0, *range(2, len(shape) + 2)])
    flat = tape.op("Reshape", by_step, tape.ints(-1, *shape))
    outputs = _outputs(Body(graph, steps, tape, together=True), flat, class_names, BATCH, taps=taps)
    proto: onnx.ModelProto = ir.to_proto(tape.model([frames], outputs, "a spiking network, all time steps unrolled"))
    return proto


def _outputs(
    body: Body,
    frames: ir.Value,
    class_names: Sequence[str] | None,
    batch: int | str,
    *,
    rates: bool = False,
    taps: bool = False,
) -> list[ir.Value]:
    """The operators from frames [T * N, ...] to the outputs."""
    tape, graph, steps = body.tape, body.graph, body.steps
    shape = graph.output.shape
    logits = body.write(frames)
    per_step = tape.op("Reshape", logits, tape.ints(steps, -1, *shape), name="logits_per_step")
    mean = reduced(tape, "ReduceMean", per_step, 0, keepdims=0, name="logits")
    outputs = [
        _typed(mean, ir.DataType.FLOAT, (batch, *shape)),
        _typed(per_step, ir.DataType.FLOAT, (steps, batch, *shape)),
    ]
    if class_names is not None:
        outputs.append(_label(tape, mean, class_names, batch))
    if rates:
        outputs.append(_spike_rates(body, batch))
    if taps:
        outputs += [_tap(body, node) for node in graph.neurons]
    return outputs


def single_step(graph: Graph, header: ExportHeader, *, opset: int = OPSET) -> onnx.ModelProto:
    """One time step per call; the caller keeps the state.

    Inputs are `frames` float32 [N, P, H, W], the counts of one step, and `state.<layer>` [N, ...] for every layer of
    neurons. Outputs are `logits` [N, classes] of this step and the inputs of the next call, `next.state.<layer>`. A
    recording begins with zeros in every state: that is the reset. A state is the part of the membrane that remains for
    the next step, (1 - 1 / tau) * v[t], or a synaptic current.
    """
    tape = _tape(header, opset)
    frames = _value("frames", ir.DataType.FLOAT, (tape.batch, *graph.input.shape))
    names = {node.name: f"state.{node.name}" for node in graph.stateful}
    header = header.model_copy(update={"states": tuple(names.values())})
    states = {n.name: _value(names[n.name], ir.DataType.FLOAT, (tape.batch, *n.shape)) for n in graph.stateful}
    inputs = [frames, *states.values()]
    body = Body(graph, 1, tape, portable=header.portable, states=states)
    logits = tape.op("Identity", body.write(frames), name="logits")
    outputs = [_typed(logits, ir.DataType.FLOAT, (tape.batch, *graph.output.shape))]
    for node in graph.stateful:
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
