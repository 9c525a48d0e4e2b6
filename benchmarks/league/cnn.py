"""A small convolutional network without spikes: counts of all time steps are the channels of one picture."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from neuromoco.config import NeuronConfig
from neuromoco.encoders.registry import Encoder, list_encoders, register_encoder
from neuromoco.frames import POLARITIES

NAME = "counts_cnn"


class CountsNetwork(nn.Module):
    """Frames [T, N, P, H, W] -> features [1, N, D], with as many parameters as `sew_resnet_tiny`."""

    def __init__(self, steps: int, pool: int) -> None:
        super().__init__()
        widths = (POLARITIES * steps, 32, 64, 80)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if outputs != widths[-1] else [nn.AdaptiveAvgPool2d(pool)]
        self.layers = nn.Sequential(*layers, nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x.transpose(0, 1).flatten(1, 2))  # [N, T * P, H, W] -> [N, D]
        return features.unsqueeze(0)


def counts_cnn(neuron: NeuronConfig, *, steps: int = 8, pool: int = 3) -> Encoder:
    """Three convolutions with batch norm and ReLU, 71 k parameters; counts over time as channels."""
    return Encoder(CountsNetwork(steps, pool), 80 * pool**2, smallest=8)


def register() -> None:
    """Makes it known as an encoder, so that it is trained as the others are."""
    if NAME not in list_encoders():
        register_encoder(counts_cnn)
