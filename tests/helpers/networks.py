"""Networks for the tests of exports: random weights under which every layer spikes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuromoco.checkpoint import SeenRecordings
from neuromoco.classifier import Classifier
from neuromoco.config import EncoderConfig, FrameConfig, NeuronConfig
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.runtime.header import ExportHeader

CLASSES = ("ant", "bee", "cow")


def event_frames(steps: int, batch: int, side: int, seed: int = 0) -> Tensor:
    """Random counts [T, N, P, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(torch.full((steps, batch, 2, side, side), 0.4), generator=generator)


def alive(network: nn.Module, frames: Tensor, gain: float = 2.0) -> Any:
    """Gives batch norm the statistics of its inputs and a gain that lets neurons of tau 2 spike."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            nn.init.constant_(module.weight, gain)
            nn.init.normal_(module.bias, std=0.1)
    with torch.no_grad():
        network(frames)
    return network.eval()


def live_classifier(config: EncoderConfig, frames: Tensor, seed: int = 0) -> Classifier:
    """A classifier of a registered encoder."""
    torch.manual_seed(seed)
    network: Classifier = alive(Classifier(build_encoder(config), len(CLASSES)), frames)
    return network


def around(body: nn.Module, frames: Tensor, seed: int = 0) -> Classifier:
    """A classifier of any module that makes [T, N, D] of frames."""
    torch.manual_seed(seed)
    alive(body, frames)
    with torch.no_grad():
        width = body(frames).shape[-1]
    return Classifier(Encoder(body, width, smallest=1), len(CLASSES)).eval()


def export_header(steps: int, side: int, **changes: Any) -> ExportHeader:
    """What an exported file of a test says of itself."""
    facts: dict[str, Any] = {
        "kind": "classifier",
        "encoder": EncoderConfig(neuron=NeuronConfig()),
        "frames": FrameConfig(steps=steps, height=side, width=side),
        "class_names": CLASSES,
        "seen": SeenRecordings(
            count=2, shortest_us=300, longest_us=400, fewest_events=300, most_events=400, sensor=(side, side)
        ),
        "stage": "supervised",
        "epoch": 1,
        "seed": 0,
        "target": "onnx",
        "source": "best.safetensors",
        "source_sha256": "0" * 64,
    }
    return ExportHeader(**facts | changes)
