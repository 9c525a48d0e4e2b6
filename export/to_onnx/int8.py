"""An unrolled file with 8-bit synapses: static QDQ, calibrated on recordings and compared with float32 on others.

Synapses, the convolutions and matrices that hold the network's weights, get int8 weights with one scale an output
channel. Neurons, attention, pooling and the binning of events stay float32.

- What a synapse takes is uint8. Spikes and counts are never negative, and a scale that is a power of two holds
  them exactly (that of 0 to 255 steps, 1/255 of the largest, would not). The largest value seen becomes 65 to
  128 steps, as processors without VNNI add pairs of products in 16 bits: 2 * 128 * 127 still fits.
- What a convolution gives, the drive of neurons, is uint8 from the smallest to the largest value seen: ONNX Runtime has
  integer kernels for nothing else. With float32 drives the file was slower than the float one, and answered as often
  alike.
- All time steps of a layer have the same scales. The head's result stays float32.
- A matrix times pixels becomes a convolution along one axis: there is no integer kernel with int8 on the left.
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

WEIGHT = ".weight"  # how the names of synapses' weights end, see `onnx_body`
LARGEST_INPUT = 128  # steps, see above
LARGEST_BYTE = 255
Range = tuple[float, float]


class Ranges(NamedTuple):
    """Smallest and largest values of a synapse, 0 among them.

    Attributes:
        taken: of its input.
        given: of its result.
    """

    taken: Range
    given: Range


class Synapse(NamedTuple):
    """An operator that holds weights of the network.

    Attributes:
        node: a Conv, or the head's MatMul.
        weight, taken, given: names of its values.
    """

    node: onnx.NodeProto
    weight: str
    taken: str
    given: str


def calibrate(model: onnx.ModelProto, frames: Iterable[Floats]) -> dict[str, Ranges]:
    """What the synapses of an unrolled float32 model take and give on recordings.

    Args:
        model: one that takes frames.
        frames: [T, N, P, H, W] of each batch.

    Returns:
        Ranges by the name of the weights, for every model that was written from the same graph.
    """
    model = _with_convolutions(model)
    synapses = list(_synapses(model))
    outer = {value.name for value in (*model.graph.input, *model.graph.output)}
    seen = {name: (0.0, 0.0) for synapse in synapses for name in (synapse.taken, synapse.given)}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in seen if name not in outer)
    network = OnnxNetwork(model.SerializeToString())
    for batch in frames:
        values = {"frames": batch, **network.run({"frames": batch})}
        for name, (low, high) in seen.items():
            seen[name] = min(low, float(values[name].min())), max(high, float(values[name].max()))
    found: dict[str, Ranges] = {}
    for synapse in synapses:
        ranges = Ranges(seen[synapse.taken], seen[synapse.given])
        before = found.get(synapse.weight, ranges)
        found[synapse.weight] = Ranges(*(_union(*pair) for pair in zip(before, ranges, strict=True)))
    return found


def quantize_onnx(model: onnx.ModelProto, header: ExportHeader, ranges: dict[str, Ranges]) -> onnx.ModelProto:
    """A model with 8-bit synapses.

    Args:
        model: an unrolled float32 one, from frames or events; it is left as it is.
        header: what it says of itself.
        ranges: from `calibrate`.
    """
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorData, TensorsData

    model = _with_convolutions(model)
    limits: dict[str, Range] = {}
    for number, synapse in enumerate(_synapses(model)):
        synapse.node.name = f"synapse.{number}"
        limits[synapse.taken] = _exact(ranges[synapse.weight].taken)
        limits[synapse.given] = ranges[synapse.weight].given
    shapes = list(model.graph.value_info)
    data = {n: TensorData(lowest=np.float32(low), highest=np.float32(high)) for n, (low, high) in limits.items()}
    # `quantize_static` would calibrate by itself, each time step apart, and then use this class.
    with _no_log():
        quantizer = QDQQuantizer(
            onnx.shape_inference.infer_shapes(model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=[synapse.node.name for synapse in _synapses(model)],
            nodes_to_exclude=[],
            op_types_to_quantize=["Conv", "MatMul"],
            extra_options={
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
                "QDQOpTypePerChannelSupportToAxis": {"MatMul": 0},
            },
        )
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    return _finished(quantizer.model.model, header, shapes)


def _finished(model: onnx.ModelProto, header: ExportHeader, shapes: Iterable[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """With its header, and without what the tools wrote on their way."""
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
    shapes = [value for value in model.graph.value_info if value.name not in stored]  # those of weights change
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)
    users = {name: node for node in model.graph.node for name in node.input}
    for synapse in [synapse for synapse in _synapses(model) if synapse.node.op_type == "MatMul"]:
        add = users[synapse.given]
        if add.op_type != "Add":  # the head, which has one column a sample
            continue
        weight, (bias,) = stored[synapse.weight], (stored[name] for name in add.input if name != synapse.given)
        if len(weight.dims) == 2:
            weight.dims.append(1)
        offset = numpy_helper.from_array(numpy_helper.to_array(bias).ravel(), f"{add.output[0]}.bias")
        model.graph.initializer.append(offset)
        names = [synapse.taken, synapse.weight, offset.name]
        synapse.node.CopyFrom(onnx.helper.make_node("Conv", names, add.output, kernel_shape=[1]))
        model.graph.node.remove(add)
    return model


def _exact(seen: Range) -> Range:
    """The range of 255 steps, a power of two each, if nothing is below 0."""
    low, high = seen
    if low < 0.0:
        return seen
    step = 2.0 ** math.ceil(math.log2((high or 1.0) / LARGEST_INPUT))  # a silent layer might spike another time
    return 0.0, LARGEST_BYTE * step


def _union(one: Range, other: Range) -> Range:
    return min(one[0], other[0]), max(one[1], other[1])


@contextmanager
def _no_log() -> Iterator[None]:
    """Keeps what ONNX Runtime's tools log off the terminal, unless somebody listens."""
    nobody = logging.NullHandler()
    logging.getLogger().addHandler(nobody)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(nobody)
