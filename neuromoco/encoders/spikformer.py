"""Spikformer (Zhou et al. 2023, arXiv 2209.15425): a spiking transformer, on spikingjelly's blocks.

Convolutional stem with max pools on spikes, a relative position convolution, then blocks of
`x + SSA(x)` and `x + MLP(x)`. Spiking self-attention has no softmax: with binary q, k, v

    SSA = LIF(BN(W LIF_theta(scale * (q k^T) v)))

Every parameter declared here is used (public code carries norms and heads that are not).
"""

from __future__ import annotations

from spikingjelly.activation_based import layer
from spikingjelly.activation_based.model.spikformer import SpikformerBlock
from torch import Tensor, nn

from neuromoco.config import NeuronConfig
from neuromoco.encoders.blocks import Blocks
from neuromoco.encoders.registry import Encoder, register_encoder
from neuromoco.errors import ConfigError
from neuromoco.neurons import SURROGATES, LIFNode, lif

POLARITIES = 2
ATTENTION_SCALE = 0.25
ATTENTION_THRESHOLD = 0.5


class Spikformer(nn.Module):
    """Stem, position convolution, blocks, mean over tokens: [T, N, P, H, W] -> [T, N, D].

    Args:
        neuron: constants of every neuron; the one after the attention product has threshold 0.5.
        dim: D, channels of a token.
        depth: number of blocks.
        heads: attention heads; divides `dim`.
        pools: which of the four stem stages end in a 3x3 max pool of stride 2.
        mlp_ratio: hidden channels of the MLP over `dim`.

    Raises:
        ConfigError: heads do not divide the width.
    """

    def __init__(
        self,
        neuron: NeuronConfig,
        dim: int,
        depth: int,
        heads: int,
        pools: tuple[bool, ...],
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        if dim % 8 or dim % heads:
            raise ConfigError(f"a width of {dim} with {heads} heads; both 8 and the heads must divide the width")
        self.stem = Blocks()
        channels = POLARITIES
        for width, pool in zip((dim // 8, dim // 4, dim // 2, dim), pools, strict=True):
            self.stem.extend(_conv_bn_lif(channels, width, neuron))
            if pool:
                self.stem.append(layer.MaxPool2d(3, 2, 1, step_mode="m"))
            channels = width
        self.position = Blocks(*_conv_bn_lif(dim, dim, neuron))
        self.blocks = Blocks(*(_block(dim, heads, mlp_ratio, neuron) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # [T, N, D, h, w]
        x = x + self.position(x)
        x = self.blocks(x)
        return x.flatten(3).mean(-1)  # [T, N, D]


def _conv_bn_lif(inputs: int, outputs: int, neuron: NeuronConfig) -> list[nn.Module]:
    return [
        layer.Conv2d(inputs, outputs, 3, 1, 1, bias=False, step_mode="m"),
        layer.BatchNorm2d(outputs, step_mode="m"),
        lif(neuron),
    ]


def _block(dim: int, heads: int, mlp_ratio: float, neuron: NeuronConfig) -> SpikformerBlock:
    block = SpikformerBlock(
        dim,
        heads,
        mlp_ratio,
        spiking_neuron=LIFNode,
        tau=neuron.tau,
        v_threshold=neuron.v_threshold,
        v_reset=0.0,
        surrogate_function=SURROGATES[neuron.surrogate](),
        detach_reset=True,
    )
    block.attn.scale = ATTENTION_SCALE
    block.attn.attn_lif.v_threshold = ATTENTION_THRESHOLD
    return block


@register_encoder
def spikformer_2_256(neuron: NeuronConfig, *, heads: int = 16, mlp_ratio: float = 4.0) -> Encoder:
    """Spikformer-2-256, 2.6 M parameters, for 128 x 128 pixels (64 tokens)."""
    return Encoder(Spikformer(neuron, 256, 2, heads, (True,) * 4, mlp_ratio), 256, smallest=16)


@register_encoder
def spikformer_tiny(neuron: NeuronConfig, *, dim: int = 64, depth: int = 1, heads: int = 4) -> Encoder:
    """Spikformer of one 64-wide block, 95 k parameters, for 34 x 34 pixels on a CPU (25 tokens)."""
    pools = (False, True, True, True)
    return Encoder(Spikformer(neuron, dim, depth, heads, pools, mlp_ratio=2.0), dim, smallest=8)
