"""Weights with which convolutional encoders begin."""

from __future__ import annotations

from torch import nn

from neuromoco.config import NeuronConfig


def start_alive(net: nn.Module, neuron: NeuronConfig) -> float:
    """Sets convolutions and batch norms so that no layer of neurons falls silent or saturates.

    A neuron sees its input divided by tau: with this gain the drive has the threshold as its standard deviation
    (Zheng et al. 2021, arXiv 2011.05280).

    Returns:
        The gain of batch norm.
    """
    gain = neuron.tau * neuron.v_threshold
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, gain)
    return gain
