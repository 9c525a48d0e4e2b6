"""ONNX files of both big encoders vs. torch's exporter and eager spikingjelly: one run, same weights, same answers.

    python -m benchmarks.onnx_export [--forms] [--seeds N]

128 x 128 pixels, T = 16, batch 1, random weights under which every layer spikes. Some minutes on 2 cores, most of
them torch's exporter at work. With --forms, how the file's operators are arranged is varied instead.
"""

from __future__ import annotations

import argparse
import io
import math
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from benchmarks.live_networks import CLASSES, grid_network, live_network, spike_rates, spikes_of
from benchmarks.timing import rounds
from neuromoco.checkpoint import SeenRecordings
from neuromoco.classifier import Classifier
from neuromoco.config import EncoderConfig, FrameConfig
from neuromoco.export.to_onnx.int8 import calibrate, quantize_onnx
from neuromoco.export.to_onnx.model import check_onnx, unrolled
from neuromoco.export.to_onnx.operators import Body
from neuromoco.graph.nodes import Attention, Conv, Graph, Linear
from neuromoco.graph.trace import PREFIX, lower
from neuromoco.runtime.header import ExportHeader
from neuromoco.snn.neurons import LIFNode

SIDE, STEPS, THREADS = 128, 16, 2
ENCODERS = (
    EncoderConfig(name="sew_resnet18", options={"stem": "imagenet"}),
    EncoderConfig(name="spikformer_2_256"),
)
EVENTS_A_PIXEL = 0.3


def header(config: EncoderConfig) -> ExportHeader:
    """What the files say of themselves."""
    seen = SeenRecordings(count=1, shortest_us=1, longest_us=1, fewest_events=1, most_events=1, sensor=(SIDE, SIDE))
    return ExportHeader(
        kind="classifier",
        encoder=config,
        frames=FrameConfig(steps=STEPS, height=SIDE, width=SIDE),
        class_names=tuple(map(str, range(CLASSES))),
        seen=seen,
        stage="benchmark",
        epoch=0,
        seed=0,
        target="onnx",
        source="random weights",
        source_sha256="",
    )


def operations(graph: Graph) -> int:
    """Multiplications and additions of all synapses of one recording, as if every value were dense."""
    total = 0
    for node in graph.nodes:
        if isinstance(node, Conv | Linear):
            total += 2 * node.weight[0].size * math.prod(node.shape)
        elif isinstance(node, Attention):
            channels, length = node.shape
            total += 4 * channels * (channels // node.heads) * length
    return total * STEPS


def matrix_peak() -> float:
    """Multiplications and additions per second of torch's float32 matrix product, best of 20."""
    a = torch.randn(2048, 2048)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return float(2 * 2048**3 / min(times))


def session(model: onnx.ModelProto | bytes, level: Any = None) -> onnxruntime.InferenceSession:
    """ONNX Runtime with its defaults and two threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    if level is not None:
        options.graph_optimization_level = level
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def torch_export(network: nn.Module, frames: Tensor) -> onnx.ModelProto:
    """The file that torch's exporter writes of the eager network."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        functional.reset_net(network)
        program = torch.onnx.export(network, (frames,), dynamo=True, verbose=False)
    functional.reset_net(network)
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    return proto


def plain(network: Classifier) -> nn.Module:
    """The network with spikingjelly's own neurons, and without the check of shapes, which does not trace."""
    for module in network.modules():
        if isinstance(module, LIFNode):
            module.__class__ = neuron.LIFNode
    return nn.Sequential(network.encoder.body, network.head)


def agreement(config: EncoderConfig, network: Classifier, frames: Tensor) -> str:
    """How our file differs from eager torch, and how eager torch in float64 differs from it: largest logit, spikes."""
    graph = lower(network, SIDE, SIDE)
    tapped = session(unrolled(graph, header(config), taps=True))
    outputs = [output.name for output in tapped.get_outputs()]
    found = dict(zip(outputs, tapped.run(None, {"frames": frames.numpy()}), strict=True))
    names = [PREFIX + node.name for node in graph.neurons]
    logits, spikes = spikes_of(network, frames)
    exact, exact_spikes = spikes_of(network.double(), frames.double())
    ours = [found[name.removeprefix(PREFIX)].reshape(spikes[name].shape) for name in names]
    flipped = sum(int((spikes[n].numpy() != o).sum()) for n, o in zip(names, ours, strict=True))
    flipped_exact = sum(int((spikes[n] != exact_spikes[n]).sum()) for n in names)
    wanted = logits.mean(0).numpy()
    return (
        f"largest difference of a logit from eager torch {np.abs(found['logits'] - wanted).max():.1e}, "
        f"spikes flipped {flipped:,} of {sum(o.size for o in ours):,}; "
        f"eager torch in float64: {np.abs(exact.mean(0).numpy() - wanted).max():.1e}, {flipped_exact:,}"
    )


def compare(config: EncoderConfig, seeds: int) -> None:
    """Prints everything about one encoder."""
    frames = torch.poisson(torch.full((STEPS, 1, 2, SIDE, SIDE), EVENTS_A_PIXEL), torch.Generator().manual_seed(0))
    network = live_network(config, frames, seed=0)
    rates = spike_rates(network, frames).values()
    print(f"\n{config.name}: {len(rates)} layers of neurons, spiking at {min(rates):.1%} to {max(rates):.1%}")
    start = time.perf_counter()
    graph = lower(network, SIDE, SIDE)
    ours = unrolled(graph, header(config))
    content = ours.SerializeToString()
    written = time.perf_counter() - start
    check_onnx(ours)
    eager = plain(network)
    start = time.perf_counter()
    theirs = torch_export(eager, frames)
    exported = time.perf_counter() - start
    print(f"written in {written:.2f} s, {len(ours.graph.node):,} operators, {len(content) / 1e6:.1f} MB")
    print(f"torch's exporter {exported:.1f} s, {len(theirs.graph.node):,} operators")
    for kind, make in {"on a grid": grid_network, "random": live_network}.items():
        for seed in range(seeds):
            print(f"weights {kind}, seed {seed}: {agreement(config, make(config, frames, seed), frames)}")
    _time(graph, eager, frames, session(content), session(theirs))


def _time(
    graph: Graph,
    eager: nn.Module,
    frames: Tensor,
    ours: onnxruntime.InferenceSession,
    theirs: onnxruntime.InferenceSession,
) -> None:
    array = frames.numpy()
    name = theirs.get_inputs()[0].name

    def run_eager() -> Tensor:
        functional.reset_net(eager)
        with torch.inference_mode():
            return eager(frames)

    ours_s, theirs_s, eager_s = rounds(
        lambda: ours.run(["logits"], {"frames": array}), lambda: theirs.run(None, {name: array}), run_eager
    )
    against = [median(a / b for a, b in zip(ours_s, other, strict=True)) for other in (theirs_s, eager_s)]
    peak, flops = matrix_peak(), operations(graph)
    print(
        f"eager spikingjelly {median(eager_s) * 1e3:.0f} ms, "
        f"ONNX Runtime on torch's file {median(theirs_s) * 1e3:.0f} ms, on ours {median(ours_s) * 1e3:.0f} ms: "
        f"{against[0]:.2f} of torch's file, {against[1]:.2f} of eager"
    )
    print(
        f"{flops / 1e9:.1f} GFLOP in synapses as if dense; matrix peak {peak / 1e9:.0f} GFLOP/s: "
        f"{flops / median(ours_s) / peak:.0%} of the peak in all"
    )


def forms(config: EncoderConfig) -> None:
    """Prints the times of other arrangements of the same network, each checked to give the same logits."""
    frames = torch.poisson(torch.full((STEPS, 1, 2, SIDE, SIDE), EVENTS_A_PIXEL), torch.Generator().manual_seed(0))
    graph = lower(live_network(config, frames, seed=0), SIDE, SIDE)
    chosen = Body.stepwise
    made: dict[str, onnxruntime.InferenceSession] = {"as written": session(unrolled(graph, header(config)))}
    no_blocks = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    made["as written, no blocks of channels"] = session(unrolled(graph, header(config)), no_blocks)
    choices: dict[str, Callable[[Body, Any], bool]] = {
        "all steps in one tensor": lambda body, node: False,
        "all convolutions step by step": lambda body, node: isinstance(node, Conv) and len(node.shape) == 3,
    }
    try:
        for name, choice in choices.items():
            Body.stepwise = choice  # type: ignore[method-assign]
            made[name] = session(unrolled(graph, header(config)))
    finally:
        Body.stepwise = chosen  # type: ignore[method-assign]
    array = frames.numpy()
    works = {name: (lambda s=s: s.run(["logits"], {"frames": array})[0]) for name, s in made.items()}
    wanted = works["as written"]()
    times = rounds(*works.values())
    print(f"\n{config.name}")
    for (name, work), seconds in zip(works.items(), times, strict=True):
        ratio = median(a / b for a, b in zip(seconds, times[0], strict=True))
        difference = float(np.abs(work() - wanted).max())
        print(f"{name:40} {median(seconds) * 1e3:6.1f} ms  {ratio:4.2f} x  logits differ by {difference:.1e}")


def eight_bits(config: EncoderConfig) -> None:
    """Prints the times of the float32 file and of its 8-bit copy, calibrated on the same frames."""
    frames = torch.poisson(torch.full((STEPS, 1, 2, SIDE, SIDE), EVENTS_A_PIXEL), torch.Generator().manual_seed(0))
    model = unrolled(lower(live_network(config, frames, seed=0), SIDE, SIDE), header(config))
    small = quantize_onnx(model, header(config), calibrate(model, [frames.numpy()]))
    given = {"frames": frames.numpy()}
    one, other = session(model), session(small)
    floats, bytes_ = rounds(lambda: one.run(["logits"], given), lambda: other.run(["logits"], given))
    ratio = median(b / a for a, b in zip(floats, bytes_, strict=True))
    print(
        f"{config.name}: float32 {median(floats) * 1e3:.1f} ms, 8 bits {median(bytes_) * 1e3:.1f} ms ({ratio:.2f}); "
        f"{model.ByteSize() / 1e6:.1f} and {small.ByteSize() / 1e6:.1f} MB"
    )


def main() -> None:
    """Prints the comparison of both encoders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forms", action="store_true", help="vary how the operators are arranged")
    parser.add_argument("--seeds", type=int, default=5, help="random networks whose answers are compared")
    parser.add_argument("--int8", action="store_true", help="compare 8-bit files with float32 ones")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    print(f"{SIDE} x {SIDE}, T = {STEPS}, batch 1, {THREADS} threads, onnxruntime {onnxruntime.__version__}; medians")
    for config in ENCODERS:
        if options.forms:
            forms(config)
        elif options.int8:
            eight_bits(config)
        else:
            compare(config, options.seeds)


if __name__ == "__main__":
    main()
