"""Spike-element-wise ResNets (Fang et al. 2021, arXiv 2102.04159) on spikingjelly's blocks.

A residual block joins the spikes of its two branches element by element: ADD (x + y, so that counts
above 1 occur), AND (x * y) or IAND (x * (1 - y), x the shortcut). The last batch norm of every
residual branch is initialised so that the block passes its shortcut on.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

from spikingjelly.activation_based import functional, layer
from spikingjelly.activation_based.model.sew_resnet import BasicBlock, sew_function
from torch import Tensor, nn

from neuromoco.config import NeuronConfig
from neuromoco.encoders.blocks import Blocks, conv_norm_lif, initialise_weights
from neuromoco.encoders.registry import Encoder, register_encoder
from neuromoco.errors import ConfigError
from neuromoco.frames import POLARITIES
from neuromoco.snn.fused import channels_last, norm_then_fire
from neuromoco.snn.neurons import lif
from neuromoco.snn.spike_conv import convolve

Stem = Literal["imagenet", "conv", "conv-pool"]
Connect = Literal["ADD", "AND", "IAND"]
# kernel and stride of the convolution, and whether a max pool follows
STEMS = {"imagenet": (7, 2, True), "conv": (3, 1, False), "conv-pool": (3, 1, True)}
CONNECTS = get_args(Connect)


class SEWResNet(nn.Module):
    """Stem, stages of residual blocks, average pool: [T, N, P, H, W] -> [T, N, D].

    Args:
        neuron: constants of every neuron.
        widths: channels of each stage; all but the first halve height and width.
        blocks: residual blocks of each stage.
        stem: see `STEMS`; the max pool is 3x3 with stride 2.
        connect: how the branches of a block are joined.
        pool: side of the grid that features are averaged to; D = widths[-1] * pool^2.
    """

    def __init__(
        self,
        neuron: NeuronConfig,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        stem: Stem,
        connect: Connect,
        pool: int,
    ) -> None:
        super().__init__()
        for option, value, allowed in (("stem", stem, STEMS), ("connect", connect, CONNECTS)):
            if value not in allowed:
                raise ConfigError(f"{option} {value!r}; allowed are {', '.join(allowed)}")
        self.widths = widths
        kernel, stride, pooled = STEMS[stem]
        self.stem = Blocks(*conv_norm_lif(POLARITIES, widths[0], neuron, kernel, stride))
        if pooled:
            self.stem.append(layer.MaxPool2d(3, 2, 1, step_mode="m"))
        self.stages = Blocks()
        channels = widths[0]
        for index, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for number in range(count):
                self.stages.append(_block(channels, width, 2 if index and not number else 1, connect, neuron))
                channels = width
        self.pool = layer.AdaptiveAvgPool2d(pool, step_mode="m")
        gain = initialise_weights(self, neuron)
        for module in self.modules():
            if isinstance(module, SEWBlock):
                nn.init.zeros_(module.bn2.weight)
                # With AND a silent branch would erase the shortcut, so it fires at every step instead.
                nn.init.constant_(module.bn2.bias, 1.25 * gain if connect == "AND" else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not any(width % 16 for width in self.widths):
            x = channels_last(x)
        x = self.stages(self.stem(x))  # [T, N, C, h, w]
        features: Tensor = self.pool(x).flatten(2)  # [T, N, C * pool^2]
        return features


class SEWBlock(BasicBlock):
    """spikingjelly's residual block with its batch norms and neurons fused: [T, N, C, H, W] -> [T, N, C', h, w]."""

    def forward(self, x: Tensor) -> Tensor:
        out = norm_then_fire(self.bn1, self.sn1, convolve(self.conv1, x))
        out = norm_then_fire(self.bn2, self.sn2, convolve(self.conv2, out))
        if self.downsample is not None:
            convolution, norm = self.downsample
            x = norm_then_fire(norm, self.downsample_sn, convolution(x))
        joined: Tensor = sew_function(x, out, self.cnf)
        return joined


def _block(inputs: int, outputs: int, stride: int, connect: Connect, neuron: NeuronConfig) -> SEWBlock:
    downsample = None
    if stride != 1 or inputs != outputs:
        convolution = layer.Conv2d(inputs, outputs, 1, stride, bias=False, step_mode="m")
        # A 1x1 kernel's gradient has the strides of channels last, its weights have not.
        convolution.weight.register_hook(lambda grad: grad.contiguous().flatten().view(grad.shape))
        downsample = nn.Sequential(convolution, layer.BatchNorm2d(outputs, step_mode="m"))
    block = SEWBlock(inputs, outputs, stride, downsample, cnf=connect, spiking_neuron=partial(lif, neuron))
    functional.set_step_mode(block, "m")
    return block


@register_encoder
def sew_resnet18(
    neuron: NeuronConfig, *, stem: Stem = "conv-pool", connect: Connect = "ADD", width: int = 64
) -> Encoder:
    """SEW-ResNet-18, 11.2 M parameters, for recordings of 48 x 48 to 240 x 180 pixels."""
    widths = (width, 2 * width, 4 * width, 8 * width)
    return Encoder(SEWResNet(neuron, widths, (2, 2, 2, 2), stem, connect, pool=1), 8 * width, smallest=16)


@register_encoder
def sew_resnet_tiny(
    neuron: NeuronConfig, *, stem: Stem = "conv-pool", connect: Connect = "ADD", width: int = 16, pool: int = 2
) -> Encoder:
    """SEW-ResNet with three one-block stages, 77 k parameters, for 34 x 34 pixels on a CPU."""
    widths = (width, 2 * width, 4 * width)
    return Encoder(SEWResNet(neuron, widths, (1, 1, 1), stem, connect, pool), 4 * width * pool**2, smallest=8)
