"""A plain chain of convolutions and neurons, for chips whose network format has no other layers.

Strided convolutions reduce the maps; there are no skips and no max pools. With fewer than 128 channels in every layer,
hard reset and ungrouped convolutions, each layer fits Loihi's standard network format.
"""

from __future__ import annotations

from spikingjelly.activation_based import layer
from torch import Tensor, nn

from neuromoco.config import NeuronConfig
from neuromoco.encoders.blocks import Blocks, conv_norm_lif, initialise_weights
from neuromoco.encoders.registry import Encoder, register_encoder
from neuromoco.errors import ConfigError
from neuromoco.frames import POLARITIES

CHANNEL_LIMIT = 128
# of each layer: channels as a multiple of the width, and stride
LAYERS = ((1, 1), (2, 2), (2, 1), (4, 2), (4, 1))


class Chain(nn.Module):
    """Five times convolution, batch norm and neurons, then average pool: [T, N, P, H, W] -> [T, N, D].

    The first layer has `width` channels, the last four times as many; D = 4 * width * pool^2. A layer with 128
    channels or more raises ConfigError.
    """

    def __init__(self, neuron: NeuronConfig, width: int, pool: int) -> None:
        super().__init__()
        widest = max(factor for factor, _ in LAYERS) * width
        if widest >= CHANNEL_LIMIT:
            raise ConfigError(f"a layer of {widest} channels; a chain has fewer than {CHANNEL_LIMIT} in each")
        self.layers = Blocks()
        channels = POLARITIES
        for factor, stride in LAYERS:
            self.layers.extend(conv_norm_lif(channels, factor * width, neuron, stride=stride))
            channels = factor * width
        self.feature_dim = channels * pool**2
        self.pool = layer.AdaptiveAvgPool2d(pool, step_mode="m")
        initialise_weights(self, neuron)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)  # [T, N, C, h, w]
        features: Tensor = self.pool(x).flatten(2)  # [T, N, C * pool^2]
        return features


@register_encoder
def chain_tiny(neuron: NeuronConfig, *, width: int = 16, pool: int = 2) -> Encoder:
    """Chain of five convolutions without skips or max pools, 70 k parameters, for 34 x 34 pixels on a CPU."""
    chain = Chain(neuron, width, pool)
    return Encoder(chain, chain.feature_dim, smallest=8)
