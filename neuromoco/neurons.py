"""The spiking neuron: one equation for training, export and simulation.

A leaky integrate-and-fire neuron with decaying input, hard reset to 0 and input x[t], v[-1] = 0:

    h[t] = v[t-1] + (x[t] - v[t-1]) / tau
    s[t] = 1 if h[t] >= v_threshold else 0
    v[t] = h[t] * (1 - s[t])

Backwards, ds/dh is a surrogate (`atan` or `sigmoid`) and the reset is a constant (detached).
The layers are spikingjelly's `LIFNode` in multi-step mode: [T, N, ...] in, spikes [T, N, ...] out.
"""

from __future__ import annotations

from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from neuromoco.config import NeuronConfig

SURROGATES = {"atan": surrogate.ATan, "sigmoid": surrogate.Sigmoid}


def lif(config: NeuronConfig, v_threshold: float | None = None) -> neuron.LIFNode:
    """A layer of neurons.

    Args:
        config: the neuron's constants.
        v_threshold: another threshold than the config's, for the layer that needs one.
    """
    return neuron.LIFNode(
        tau=config.tau,
        decay_input=True,
        v_threshold=config.v_threshold if v_threshold is None else v_threshold,
        v_reset=0.0,
        surrogate_function=SURROGATES[config.surrogate](),
        detach_reset=True,
        step_mode="m",
    )


def reset_state(module: nn.Module) -> None:
    """Sets every neuron's membrane back to rest: a recording starts from nothing."""
    functional.reset_net(module)
