"""From any torch module of known layers to a file for another runtime, compared with the module layer by layer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from neuromoco.errors import ConfigError, ParityError
from neuromoco.export.check.parity import ExportRun, measure_parity
from neuromoco.export.exporter import report_path
from neuromoco.export.to_onnx.model import check_onnx, unrolled_module
from neuromoco.graph.nodes import Graph
from neuromoco.graph.trace import lowered_on
from neuromoco.runtime.onnx_guard.operator_sets import OPSET
from neuromoco.runtime.prediction import Floats
from neuromoco.snn.neurons import evaluation_mode, reset_state
from neuromoco.support.extras import need
from neuromoco.support.files import write_json, writing
from neuromoco.support.untrusted import one_line
from neuromoco.unsupported import Unsupported, refuse

Layout = Literal["TN", "NT"]
PREFIX = "network."  # of the names of a module's layers within `Stepped`
NOISY = 2  # inputs of noise in a comparison, besides the example
TARGETS = ("onnx", "nir")


class Stepped(nn.Module):
    """Any module as one of inputs [T, N, ...], from rest.

    Args:
        network: takes [T, N, ...], [N, T, ...] with layout "NT", or one time step [N, ...].
        layout: of what it takes.
        stepwise: whether it takes one time step per call.
    """

    def __init__(self, network: nn.Module, layout: Layout, stepwise: bool) -> None:
        super().__init__()
        self.network, self.layout, self.stepwise = network, layout, stepwise

    def forward(self, x: Tensor) -> Any:
        reset_state(self.network)
        if self.stepwise:
            return torch.stack([self.network(step) for step in x])
        return self.network(x if self.layout == "TN" else x.transpose(0, 1))


def export_module(
    network: nn.Module,
    example: Tensor,
    out: Path | str,
    *,
    target: str = "onnx",
    steps: int | None = None,
    layout: Layout = "TN",
    class_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Writes a spiking network for another runtime; see `neuromoco.export`."""
    out = Path(out)
    frames = check_module(network, example, out, target, steps, layout)
    if class_names is not None and not all(isinstance(name, str) for name in class_names):
        raise ConfigError(f"class names {one_line(repr(class_names))}; give a list of texts")
    stepped = Stepped(network, layout, steps is not None)
    examples = [frames, *noise_like(frames)]
    begin = time.perf_counter()
    with evaluation_mode(network):
        graph, unsupported = lowered_on(stepped, examples, PREFIX, logits=False)
        refuse(unsupported or _one_recording(stepped, frames))
        assert graph is not None, "or something is unsupported"
        if class_names is not None and graph.output.shape != (len(class_names),):
            raise ConfigError(f"{len(class_names)} class names for results of shape {graph.output.shape}; omit them")
        with writing(out) as part:
            facts = WRITERS[target](graph, part, frames, layout, class_names)
            seconds = time.perf_counter() - begin
            runs = RUNNERS[target](graph, part, examples, layout, class_names)
            parity = measure_parity(stepped, graph, runs)
            report = {
                "file": out.name,
                "source": type(network).__name__,
                "target": target,
                "steps": len(frames),
                "layout": layout,
                **facts,
                "seconds_to_write": seconds,
                "compared": {"examples": frames.shape[1], "noise": NOISY * frames.shape[1]},
                "parity": parity.to_json(),
            }
            write_json(report_path(out), report)
            if parity.problem:
                raise ParityError(f"{out}: not written: {parity.problem}; see {report_path(out)}")
    return report


def unsupported_in(
    network: nn.Module, example: Tensor, *, target: str = "onnx", steps: int | None = None, layout: Layout = "TN"
) -> list[Unsupported]:
    """Lists every layer of a module that a target cannot express, in the order of computing."""
    frames = check_module(network, example, Path("-"), target, steps, layout)
    with evaluation_mode(network):
        stepped = Stepped(network, layout, steps is not None)
        graph, unsupported = lowered_on(stepped, [frames, *noise_like(frames)], PREFIX, logits=False)
        unsupported = unsupported or _one_recording(stepped, frames)
    if graph is not None and not unsupported and target == "nir":
        from neuromoco.export.to_nir.nodes import find_unsupported_nir

        return find_unsupported_nir(graph)
    return unsupported


def _one_recording(stepped: Stepped, frames: Tensor) -> list[Unsupported]:
    """Why a module that takes frames [T, N, ...] does not take those of one recording, as the comparison gives them."""
    reset_state(stepped)
    try:
        with torch.no_grad():
            stepped(frames[:, :1])
    except Exception as error:  # of the user's code
        return [Unsupported("network", "forward", f"fails on one recording ({one_line(error)}); let it take any N")]
    finally:
        reset_state(stepped)
    return []


def check_module(
    network: nn.Module,
    example: Any,
    out: Path,
    target: str,
    steps: int | None,
    layout: str,
) -> Tensor:
    """The example as [T, N, ...] of two recordings or more; refuses what does not go together."""
    if target not in TARGETS:
        raise ConfigError(f"target {target!r} of a module; choose {' or '.join(TARGETS)}, or give --data and --classes")
    if target == "nir":
        need("nir", "--target nir")
    if layout not in get_args(Layout):
        raise ConfigError(f"layout {layout!r}; choose {' or '.join(get_args(Layout))}")
    if not isinstance(example, Tensor) or example.dtype != torch.float32:
        what = example.dtype if isinstance(example, Tensor) else type(example).__name__
        raise ConfigError(f"an example of {what}; give a float32 tensor [T, N, ...] of what the module takes")
    if out.is_dir():
        raise ConfigError(f"{out}: is a folder; name a new file")
    if steps is not None and (not isinstance(steps, int) or steps < 1 or layout != "TN"):
        raise ConfigError(
            f"steps={steps!r}, layout={layout!r}; steps counts the calls of a module of [N, ...], 1 or more"
        )
    if example.ndim < (2 if steps else 3) or not example.numel():
        raise ConfigError(f"an example of shape {tuple(example.shape)}; give [T, N, ...], or [N, ...] with steps=")
    odd = next((p.dtype for p in network.parameters() if p.dtype != torch.float32), None)
    if odd is not None:
        raise ConfigError(f"weights of {odd}; give the module in float32: module.float()")
    frames = example.detach().cpu()
    frames = torch.stack([frames] * (steps or 1)) if steps else frames if layout == "TN" else frames.transpose(0, 1)
    return torch.cat([frames, frames.flip(-1)], 1) if frames.shape[1] == 1 else frames.contiguous()


def noise_like(frames: Tensor) -> Iterator[Tensor]:
    """Inputs of the same numbers at other places, and of other numbers."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(frames.numel(), generator=generator)
    yield frames.flatten()[order].view(frames.shape)
    yield torch.poisson(torch.full(frames.shape, 1.0), generator=generator)


def _write_onnx(
    graph: Graph, part: Path, frames: Tensor, layout: Layout, class_names: Sequence[str] | None
) -> dict[str, Any]:
    model = unrolled_module(graph, len(frames), layout, class_names)
    check_onnx(model)
    part.write_bytes(model.SerializeToString(deterministic=True))
    outputs = [value.name for value in model.graph.output]
    return {"opset": OPSET, "nodes": len(model.graph.node), "bytes": part.stat().st_size, "outputs": outputs}


def _run_onnx(
    graph: Graph, part: Path, examples: Sequence[Tensor], layout: Layout, class_names: Sequence[str] | None
) -> Iterator[ExportRun]:
    """The file's results, and the spikes of the same network with every layer as an output."""
    exported = onnxruntime.InferenceSession(part.read_bytes(), providers=["CPUExecutionProvider"])
    steps = len(examples[0])
    model = unrolled_module(graph, steps, layout, class_names, taps=True).SerializeToString()
    tapped = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [node.name for node in graph.neurons]
    for frames in _one_by_one(examples):
        given = {"frames": frames if layout == "TN" else frames.swapaxes(0, 1)}
        (logits,) = exported.run(["logits_per_step"], given)
        own, *spikes = tapped.run(["logits_per_step", *names], given)
        shaped = {
            name: values.reshape(steps, 1, *graph[name].shape) for name, values in zip(names, spikes, strict=True)
        }
        yield ExportRun(frames, logits, shaped, own)


def _write_nir(
    graph: Graph, part: Path, frames: Tensor, layout: Layout, class_names: Sequence[str] | None
) -> dict[str, Any]:
    import nir

    from neuromoco.export.to_nir.nodes import DT, find_unsupported_nir, to_nir

    refuse(find_unsupported_nir(graph))
    written = to_nir(graph, {"dt": DT})
    nir.write(part, written)
    return {"nodes": len(written.nodes), "edges": len(written.edges), "bytes": part.stat().st_size}


def _run_nir(
    graph: Graph, part: Path, examples: Sequence[Tensor], layout: Layout, class_names: Sequence[str] | None
) -> Iterator[ExportRun]:
    import nir

    from neuromoco.export.to_nir.export import snntorch_runs

    names = [node.name for node in graph.neurons]
    yield from snntorch_runs(nir.read(part), names, _one_by_one(examples))


def _one_by_one(examples: Sequence[Tensor]) -> Iterator[Floats]:
    for example in examples:
        for n in range(example.shape[1]):
            yield np.ascontiguousarray(example[:, n : n + 1].numpy())


WRITERS = {"onnx": _write_onnx, "nir": _write_nir}
RUNNERS = {"onnx": _run_onnx, "nir": _run_nir}


def summary(out: Path, report: dict[str, Any]) -> list[str]:
    """The report in a few lines for the terminal."""
    parity = report["parity"]
    flipped = sum(layer["flipped"] for layer in parity["layers"])
    total = sum(layer["compared"] for layer in parity["layers"])
    return [
        f"{out}: {report['source']} for {report['target']}, T = {report['steps']}, {report['nodes']:,} nodes, "
        f"{report['bytes'] / 1e6:.2f} MB",
        f"compared with torch on {parity['recordings']} inputs: largest error {parity['largest_error']:.1e}, "
        f"{flipped:,} of {total:,} spikes and silences differ" + (", each by rounding alone" if flipped else ""),
    ]
