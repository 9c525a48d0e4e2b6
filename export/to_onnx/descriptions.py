"""What the inputs and outputs of a file hold, in words in the file: shapes, units, how events become frames."""

from __future__ import annotations

from neuromoco.config import FrameConfig
from neuromoco.runtime.header import NEXT, ExportHeader

POLARITY = "polarity 0 is OFF (darker), 1 is ON (brighter)"


def describe(header: ExportHeader, name: str) -> str:
    """What the input or output of a name holds."""
    if name.startswith(NEXT):
        return f"the input {name.removeprefix(NEXT)} of the next call"
    if name in header.states:
        return f"what remains of the membranes from one step to the next; zeros at the begin of a recording: {name}"
    texts = {
        "frames": _frames(header.frames, header.target == "onnx-step"),
        "t": "[E] times of E events of one recording, in microseconds, in order, from any origin",
        "x": "[E] columns, 0 at the left",
        "y": "[E] rows, 0 at the top",
        "p": f"[E] polarities: {POLARITY}",
        "sensor": "[2] rows and columns of the sensor",
        "logits": f"[N, {len(header.class_names)}] a number a class, the largest is the answer: {_classes(header)}",
        "logits_per_step": "[T, N, classes] of every time step; logits is their mean over time",
        "spike_rates": "[N, layers of neurons] spikes a neuron and step, layers in the order of computing",
    }
    if header.target == "onnx-step":
        texts["logits"] += "; of this step: the answer is the mean over all steps"
    return texts.get(name, f"[T * N, ...] spikes of the layer {name}")


def _classes(header: ExportHeader) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(header.class_names))


def _frames(config: FrameConfig, step: bool) -> str:
    axes = "[N, polarity, row, column]" if step else "[T, N, polarity, row, column]"
    slices = {
        "count": f"step i of {config.steps} holds the events i * n to (i + 1) * n in order of time, n = events // "
        f"{config.steps}, the last step also the remainder",
        "time": f"an event at t is in step (t - first) * {config.steps} // (last - first + 1)",
    }
    part = (
        ""
        if config.crop is None
        else f", of the part of the sensor at left, top, width, height {config.crop}, x and y from its corner"
    )
    return (
        f"{axes} events of a time step, polarity and pixel, whole numbers, not scaled; {POLARITY}. "
        f"{slices[config.slice_by]}{part}. An event at x, y of a sensor of w x h pixels counts in column "
        f"x * {config.width} // w and row y * {config.height} // h; of a smaller sensor rows and columns are repeated: "
        f"column i is its column i * w // {config.width}, row j its row j * h // {config.height}"
    )
