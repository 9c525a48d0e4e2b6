"""Spikformer (Zhou et al. 2023, arXiv 2209.15425): a spiking transformer, on spikingjelly's blocks.

Convolutional stem with max pools on spikes, a relative position convolution, then blocks of
`x + SSA(x)` and `x + MLP(x)`. Spiking self-attention has no softmax: with binary q, k, v

    SSA = LIF(BN(W LIF_theta(scale * (q k^T) v)))

Every parameter declared here is used (public implementations also carry unused norms and heads).
"""

from __future__ import annotations

from spikingjelly.activation_based import layer
from spikingjelly.activation_based.layer import SpikingSelfAttention
from spikingjelly.activation_based.model.spikformer import SpikformerMLP
from torch import Tensor, nn

from neuromoco.config import NeuronConfig
from neuromoco.encoders.blocks import Blocks, conv_norm_lif
from neuromoco.encoders.registry import Encoder, register_encoder
from neuromoco.errors import ConfigError
from neuromoco.frames import POLARITIES
from neuromoco.snn import native
from neuromoco.snn.fused import channels_last, tokens_norm_then_fire
from neuromoco.snn.neurons import lif

ATTENTION_SCALE = 0.25
ATTENTION_THRESHOLD = 0.5


class Spikformer(nn.Module):
    """Stem, position convolution, blocks, mean over tokens: [T, N, P, H, W] -> [T, N, D].

    Args:
        neuron: constants of every neuron; the one after the attention product has threshold 0.5.
        dim: D, channels of a token; 8 and `heads` must divide it.
        depth: number of blocks.
        heads: attention heads.
        pools: which of the four stem stages end in a 3x3 max pool of stride 2.
        mlp_ratio: hidden channels of the MLP over `dim`.
    """

    def __init__(
        self, neuron: NeuronConfig, dim: int, depth: int, heads: int, pools: tuple[bool, ...], mlp_ratio: float
    ) -> None:
        super().__init__()
        if dim % 8 or dim % heads:
            raise ConfigError(f"a width of {dim} with {heads} heads; both 8 and the heads must divide the width")
        self.dim = dim
        self.stem = Blocks()
        channels = POLARITIES
        for width, pool in zip((dim // 8, dim // 4, dim // 2, dim), pools, strict=True):
            self.stem.extend(conv_norm_lif(channels, width, neuron))
            if pool:
                self.stem.append(layer.MaxPool2d(3, 2, 1, step_mode="m"))
            channels = width
        self.position = Blocks(*conv_norm_lif(dim, dim, neuron))
        self.blocks = Blocks(*(SpikformerBlock(dim, heads, mlp_ratio, neuron) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not self.dim % 128:
            x = channels_last(x)
        x = self.stem(x)  # [T, N, D, h, w]
        x = x + self.position(x)
        x = self.blocks(x.contiguous())
        return x.flatten(3).mean(-1)  # [T, N, D]


def attend(attention: SpikingSelfAttention, x: Tensor) -> Tensor:
    """Spiking self-attention; in training, batch norms and neurons are fused: [T, N, D, L] -> [T, N, D, L]."""
    if not attention.training or native.has_hooks(attention):
        spikes: Tensor = attention(x)
        return spikes
    qkv = tokens_norm_then_fire(attention.qkv_conv_bn, attention.qkv_lif, x)  # [T, N, 3 * D, L]
    split = qkv.reshape(*x.shape[:2], 3, attention.num_heads, attention.head_dim, x.shape[3])
    mixed = attention.attn_lif(attention._ssa_kernel_torch(split, attention.scale)).reshape(x.shape)
    return tokens_norm_then_fire(attention.proj_conv_bn, attention.proj_lif, mixed)


class MLP(SpikformerMLP):
    """spikingjelly's MLP with batch norms and neurons fused: [T, N, D, L] -> [T, N, D, L]."""

    def forward(self, x: Tensor) -> Tensor:
        x = tokens_norm_then_fire(self.fc1, self.neuron1, x)
        return tokens_norm_then_fire(self.fc2, self.neuron2, x)


class SpikformerBlock(nn.Module):
    """`x + SSA(x)`, then `x + MLP(x)`: [T, N, D, h, w] -> [T, N, D, h, w]."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, neuron: NeuronConfig) -> None:
        super().__init__()
        self.attn = SpikingSelfAttention(dim, heads, spiking_neuron=lambda **_: lif(neuron))
        self.attn.scale = ATTENTION_SCALE
        self.attn.attn_lif.v_threshold = ATTENTION_THRESHOLD
        self.mlp = MLP(dim, int(dim * mlp_ratio), dim, spiking_neuron=lambda **_: lif(neuron))

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = x.flatten(3)
        tokens = tokens + attend(self.attn, tokens)
        tokens = tokens + self.mlp(tokens)
        return tokens.reshape(x.shape)


@register_encoder
def spikformer_2_256(neuron: NeuronConfig, *, heads: int = 16, mlp_ratio: float = 4.0) -> Encoder:
    """Spikformer-2-256, 2.6 M parameters, for 128 x 128 pixels (64 tokens)."""
    return Encoder(Spikformer(neuron, 256, 2, heads, (True,) * 4, mlp_ratio), 256, smallest=16)


@register_encoder
def spikformer_tiny(neuron: NeuronConfig, *, dim: int = 64, depth: int = 1, heads: int = 4) -> Encoder:
    """Spikformer of one 64-wide block, 95 k parameters, for 34 x 34 pixels on a CPU (25 tokens)."""
    pools = (False, True, True, True)
    return Encoder(Spikformer(neuron, dim, depth, heads, pools, mlp_ratio=2.0), dim, smallest=8)
