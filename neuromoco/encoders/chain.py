"""A plain chain of convolutions and neurons, for chips whose network format knows nothing else.

No skips and no max pools: strided convolutions make the maps smaller. With fewer than 128 channels in
every layer, hard reset and ungrouped convolutions, each layer fits the stock network format of Loihi.
"""

from __future__ import annotations

from spikingjelly.activation_based import layer
from torch import Tensor, nn

from neuromoco.config import NeuronConfig
from neuromoco.encoders.blocks import Blocks
from neuromoco.encoders.initialise import start_alive
from neuromoco.encoders.registry import Encoder, register_encoder
from neuromoco.errors import ConfigError
from neuromoco.frames import POLARITIES
from neuromoco.snn.neurons import lif

CHANNEL_LIMIT = 128
# of each layer: channels as a multiple of the width, and stride
LAYERS = ((1, 1), (2, 2), (2, 1), (4, 2), (4, 1))


class Chain(nn.Module):
    """Convolution, batch norm, neurons, again and again, then average pool: [T, N, P, H, W] -> [T, N, D].

    Args:
        neuron: constants of every neuron.
        widths: channels of each layer.
        strides: of each layer's 3x3 convolution.
        pool: side of the grid that features are averaged to; D = widths[-1] * pool^2.

    Raises:
        ConfigError: a layer with 128 channels or more.
    """

    def __init__(self, neuron: NeuronConfig, widths: tuple[int, ...], strides: tuple[int, ...], pool: int) -> None:
        super().__init__()
        if max(widths) >= CHANNEL_LIMIT:
            raise ConfigError(f"a layer of {max(widths)} channels; a chain has fewer than {CHANNEL_LIMIT} in each")
        self.layers = Blocks()
        channels = POLARITIES
        for width, stride in zip(widths, strides, strict=True):
            self.layers.extend(
                [
                    layer.Conv2d(channels, width, 3, stride, 1, bias=False, step_mode="m"),
                    layer.BatchNorm2d(width, step_mode="m"),
                    lif(neuron),
                ]
            )
            channels = width
        self.pool = layer.AdaptiveAvgPool2d(pool, step_mode="m")
        start_alive(self, neuron)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)  # [T, N, C, h, w]
        return self.pool(x).flatten(2)  # [T, N, C * pool^2]


@register_encoder
def chain_tiny(neuron: NeuronConfig, *, width: int = 16, pool: int = 2) -> Encoder:
    """Chain of five convolutions without skips or max pools, 70 k parameters, for 34 x 34 pixels on a CPU."""
    widths = tuple(factor * width for factor, _ in LAYERS)
    strides = tuple(stride for _, stride in LAYERS)
    return Encoder(Chain(neuron, widths, strides, pool), widths[-1] * pool**2, smallest=8)
