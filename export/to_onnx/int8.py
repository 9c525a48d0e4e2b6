"""An unrolled model with 8-bit synapses: static QDQ, calibrated on recordings and compared with float32 on others.

Synapses, the convolutions and matrices with the network's weights, get int8 weights with one scale per output channel.
Neurons, attention, pooling and the binning of events stay float32.

- The input of a synapse is uint8. Spikes and counts are never negative, and a scale that is a power of two represents
  them exactly (1/255 of the largest value would not). The largest measured value becomes 65 to 128 steps, because
  processors without VNNI add pairs of products in 16 bits: 2 * 128 * 127 still fits.
- The result of a convolution, the drive of neurons, is uint8 from the smallest to the largest measured value: ONNX
  Runtime has integer kernels for nothing else. With float32 drives the file was slower than the float one, and its
  answers agreed no better.
- Max pools of spikes stay float32, see `_pool_in_float`.
- All time steps of a layer have the same scales. The head's result stays float32.
- A matrix times pixels becomes a convolution along one axis: there is no integer kernel with int8 on the left.

Portable files have int8 values with zero point 0 instead of uint8 ones, which other runtimes lack: inputs in steps of a
power of two, results on both sides of 0 in equal ones.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from neuromoco.checkpoint import KEY
from neuromoco.export.to_onnx.model import check_onnx
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.onnx_file import OnnxNetwork
from neuromoco.runtime.prediction import Floats

WEIGHT = ".weight"  # suffix of the names of synapses' weights, see `operators`
LARGEST_INPUT = 128  # steps, see the module's docstring
LARGEST_BYTE = 255
LARGEST_SIGNED = 127
Range = tuple[float, float]


class Ranges(NamedTuple):
    """Smallest and largest values of a synapse's input and result, including 0."""

    input: Range
    result: Range


class Synapse(NamedTuple):
    """An operator with weights of the network, a Conv or the head's MatMul, and the names of its values."""

    node: onnx.NodeProto
    weight: str
    input: str
    result: str


def calibrate(model: onnx.ModelProto, frames: Iterable[Floats]) -> dict[str, Ranges]:
    """Measures the ranges of the synapses of an unrolled float32 model on batches of frames [T, N, P, H, W].

    They are by the name of the weights, and so for every model that is written from the same graph.
    """
    model = _with_convolutions(model)
    synapses = list(_synapses(model))
    outer = {value.name for value in (*model.graph.input, *model.graph.output)}
    limits = {name: (0.0, 0.0) for synapse in synapses for name in (synapse.input, synapse.result)}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in limits if name not in outer)
    network = OnnxNetwork(model.SerializeToString())
    for batch in frames:
        values = {"frames": batch, **network.run({"frames": batch})}
        for name, (low, high) in limits.items():
            limits[name] = min(low, float(values[name].min())), max(high, float(values[name].max()))
    ranges: dict[str, Ranges] = {}
    for synapse in synapses:
        own = Ranges(limits[synapse.input], limits[synapse.result])
        before = ranges.get(synapse.weight, own)
        ranges[synapse.weight] = Ranges(*((min(a, c), max(b, d)) for (a, b), (c, d) in zip(before, own, strict=True)))
    return ranges


def quantize_onnx(model: onnx.ModelProto, header: ExportHeader, ranges: dict[str, Ranges]) -> onnx.ModelProto:
    """An unrolled float32 model, from frames or events, with 8-bit synapses of the ranges that `calibrate` measured."""
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorData, TensorsData

    model = _with_convolutions(model)
    if not header.portable:
        _pool_in_float(model)
    limits: dict[str, Range] = {}
    for number, synapse in enumerate(_synapses(model)):
        synapse.node.name = f"synapse.{number}"
        limits[synapse.input] = _exact(ranges[synapse.weight].input, header.portable)
        limits[synapse.result] = ranges[synapse.weight].result
    shapes = list(model.graph.value_info)
    data = {n: TensorData(lowest=np.float32(low), highest=np.float32(high)) for n, (low, high) in limits.items()}
    # `quantize_static` would calibrate each time step by itself before it uses this class.
    with _no_log():
        quantizer = QDQQuantizer(
            onnx.shape_inference.infer_shapes(model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if header.portable else QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=[synapse.node.name for synapse in _synapses(model)],
            nodes_to_exclude=[],
            op_types_to_quantize=["Conv", "MatMul"],
            extra_options={
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
                "QDQOpTypePerChannelSupportToAxis": {"MatMul": 0},
                "ActivationSymmetric": header.portable,
            },
        )
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    return _finished(quantizer.model.model, header, shapes)


def _finished(model: onnx.ModelProto, header: ExportHeader, shapes: Iterable[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """The model with its header, and without the metadata of the tools."""
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=header.model_copy(update={"precision": "int8"}).model_dump_json())
    model.producer_name, model.producer_version = "neuromoco", ""
    check_onnx(model)
    return model


def _synapses(model: onnx.ModelProto) -> Iterator[Synapse]:
    stored = {value.name for value in model.graph.initializer if value.name.endswith(WEIGHT)}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in stored:
            yield Synapse(node, node.input[1], node.input[0], node.output[0])
        elif node.op_type == "MatMul" and node.input[0] in stored:
            yield Synapse(node, node.input[0], node.input[1], node.output[0])


def _with_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every weight matrix times pixels, and the bias after it, is a Conv along one axis."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    stored = {value.name: value for value in model.graph.initializer}
    shapes = [value for value in model.graph.value_info if value.name not in stored]  # shapes of weights change
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)
    users = {name: node for node in model.graph.node for name in node.input}
    for synapse in [synapse for synapse in _synapses(model) if synapse.node.op_type == "MatMul"]:
        add = users[synapse.result]
        if add.op_type != "Add":  # the head, which has one column per sample
            continue
        weight, (bias,) = stored[synapse.weight], (stored[name] for name in add.input if name != synapse.result)
        if len(weight.dims) == 2:
            weight.dims.append(1)
        offset = numpy_helper.from_array(numpy_helper.to_array(bias).ravel(), f"{add.output[0]}.bias")
        model.graph.initializer.append(offset)
        names = [synapse.input, synapse.weight, offset.name]
        synapse.node.CopyFrom(onnx.helper.make_node("Conv", names, add.output, kernel_shape=[1]))
        model.graph.node.remove(add)
    return model


def _pool_in_float(model: onnx.ModelProto) -> None:
    """Puts a Ceil, which changes no spike, behind each max pool of spikes that leads to a synapse.

    ONNX Runtime would pool the bytes instead: its kernel for them took ten times as long as that for float32.
    """
    makers = {name: node for node in model.graph.node for name in node.output}

    def spiking(name: str) -> bool:
        node = makers.get(name)
        if node is None or node.op_type not in ("Split", "Concat"):
            return node is not None and node.op_type == "HardSigmoid"
        return all(spiking(part) for part in (node.input if node.op_type == "Concat" else node.input[:1]))

    inputs = {synapse.input for synapse in _synapses(model)}
    nodes = list(model.graph.node)
    for node in [node for node in nodes if node.op_type == "MaxPool" and node.output[0] in inputs]:
        if spiking(node.input[0]):
            name = node.output[0]
            node.output[0] = f"{name}.pooled"
            nodes.insert(nodes.index(node) + 1, onnx.helper.make_node("Ceil", node.output, [name]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _exact(limits: Range, signed: bool) -> Range:
    """The range of 255 steps of a power of two, or of 127 on each side of 0, if nothing is below 0."""
    low, high = limits
    if low < 0.0:
        return limits
    step = 2.0 ** math.ceil(
        math.log2((high or 1.0) / (LARGEST_SIGNED if signed else LARGEST_INPUT))
    )  # one without spikes here may spike later
    return (-LARGEST_SIGNED * step, LARGEST_SIGNED * step) if signed else (0.0, LARGEST_BYTE * step)


@contextmanager
def _no_log() -> Iterator[None]:
    """Keeps the log of ONNX Runtime's tools off the terminal, unless a handler is installed."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
