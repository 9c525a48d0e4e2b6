"""One NeuroMoCo step written plainly with spikingjelly's modules, to be measured against.

The networks take the weights of this project's encoders by name, so that both compute the same.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model.sew_resnet import BasicBlock
from spikingjelly.activation_based.model.spikformer import SpikformerBlock
from torch import Tensor, nn

from neuromoco.config import MocoConfig

LIF = {"tau": 2.0, "v_reset": 0.0, "detach_reset": True}


def lif(**_: object) -> neuron.LIFNode:
    """spikingjelly's neuron with this project's defaults."""
    return neuron.LIFNode(surrogate_function=surrogate.ATan(), step_mode="m", **LIF)


def stage(inputs: int, outputs: int) -> list[nn.Module]:
    """Convolution, batch norm, neurons, max pool."""
    return [
        layer.Conv2d(inputs, outputs, 3, 1, 1, bias=False, step_mode="m"),
        layer.BatchNorm2d(outputs, step_mode="m"),
        lif(),
        layer.MaxPool2d(3, 2, 1, step_mode="m"),
    ]


class PlainSEWResNet18(nn.Module):
    """[T, N, 2, H, W] -> [T, N, 512]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*stage(2, 64))
        self.stages = nn.Sequential()
        inputs = 64
        for outputs in (64, 64, 128, 128, 256, 256, 512, 512):
            stride = 1 if inputs == outputs else 2
            downsample = None
            if stride == 2:
                downsample = nn.Sequential(layer.Conv2d(inputs, outputs, 1, 2, bias=False), layer.BatchNorm2d(outputs))
            self.stages.append(BasicBlock(inputs, outputs, stride, downsample, cnf="ADD", spiking_neuron=lif))
            inputs = outputs
        self.pool = layer.AdaptiveAvgPool2d(1)
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.stages(self.stem(x))).flatten(2)


class PlainSpikformer2x256(nn.Module):
    """[T, N, 2, H, W] -> [T, N, 256]."""

    def __init__(self) -> None:
        super().__init__()
        widths = (2, 32, 64, 128, 256)
        self.stem = nn.Sequential()
        for inputs, outputs in pairwise(widths):
            self.stem.extend(stage(inputs, outputs))
        self.position = nn.Sequential(*stage(256, 256)[:3])
        self.blocks = nn.Sequential()
        for _ in range(2):
            block = SpikformerBlock(
                256, 16, 4.0, spiking_neuron=neuron.LIFNode, surrogate_function=surrogate.ATan(), **LIF
            )
            block.attn.scale = 0.25
            block.attn.attn_lif.v_threshold = 0.5
            self.blocks.append(block)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.blocks(x + self.position(x)).flatten(3).mean(-1)


ENCODERS = {"sew_resnet18": PlainSEWResNet18, "spikformer_2_256": PlainSpikformer2x256}


class PlainStep:
    """Query forward and backward, key forward, loss, update, momentum, queue.

    Args:
        name: of the encoder.
        state: this project's `MoCo.state_dict()`.
        config: the method's settings.
        lr: of AdamW.
    """

    def __init__(self, name: str, state: dict[str, Tensor], config: MocoConfig, lr: float) -> None:
        self.config = config
        encoder = nn.Module()
        encoder.body = ENCODERS[name]()
        features = state["encoder_q.1.0.weight"].shape[1]
        projector = nn.Sequential(
            nn.Linear(features, config.hidden_dim), nn.ReLU(), nn.Linear(config.hidden_dim, config.embed_dim)
        )
        self.encoder_q = nn.ModuleList([encoder, projector])
        self.encoder_k = copy.deepcopy(self.encoder_q).requires_grad_(False)
        for net, prefix in ((self.encoder_q, "encoder_q."), (self.encoder_k, "encoder_k.")):
            net.load_state_dict({key.removeprefix(prefix): value for key, value in state.items() if prefix in key})
        self.queue, self.pointer = state["queue"].clone(), 0
        self.optimizer = torch.optim.AdamW(self.encoder_q.parameters(), lr=lr, weight_decay=0.0)

    def __call__(self, view_q: Tensor, view_k: Tensor) -> Tensor:
        """The loss of a batch of two views [T, N, P, H, W]."""
        z_q = self._embed(self.encoder_q, view_q)  # [T, N, D]
        with torch.no_grad():
            z_k = self._embed(self.encoder_k, view_k)
        parts = [self._info_nce(z_q.mean(0), z_k.mean(0), self.queue.mean(1))]
        steps = [self._info_nce(z_q[t], z_k[t], self.queue[:, t]) for t in range(len(z_q))]
        parts.append(torch.stack(steps).mean())
        loss = self.config.alpha * parts[0] + self.config.beta * parts[1]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for theta_k, theta_q in zip(self.encoder_k.parameters(), self.encoder_q.parameters(), strict=True):
                theta_k.mul_(self.config.momentum).add_(theta_q, alpha=1.0 - self.config.momentum)
            end = self.pointer + z_k.shape[1]
            self.queue[:, :, self.pointer : end] = z_k.permute(2, 0, 1)
            self.pointer = end % self.queue.shape[2]
        return loss.detach()

    def _embed(self, net: nn.ModuleList, frames: Tensor) -> Tensor:
        functional.reset_net(net)
        return net[1](net[0].body(frames))

    def _info_nce(self, query: Tensor, key: Tensor, negatives: Tensor) -> Tensor:
        """Of [N, D], [N, D] and [D, K], none of them normalised."""
        query, key, negatives = F.normalize(query, dim=1), F.normalize(key, dim=1), F.normalize(negatives, dim=0)
        logits = torch.cat([(query * key).sum(1, keepdim=True), query @ negatives], 1) / self.config.temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))
