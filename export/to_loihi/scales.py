"""Float weights as Loihi's integers: the scale of every layer.

A neuron of the graph fires where g h[t] >= g v_th, with g h[t] = keep g v[t-1] + x[t] and g = tau where the input
decays, else 1. Times s, with whole weights s w, this is the integer neuron of `loihi_graph`: v = 64 s g h, which
fires for v > 64 v_threshold. The rule for s stands in `neuromoco.snn.loihi_ranges`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromoco.export.graph.nodes import LIF
from neuromoco.export.to_loihi.synapses import FloatSynapse
from neuromoco.runtime.loihi.blocks import FULL_DECAY, LARGEST_DRIVE, READOUT, Integers, Neuron
from neuromoco.snn.loihi_ranges import (
    LARGEST_BIAS,
    LARGEST_THRESHOLD,
    LARGEST_WEIGHT,
    exact_scale,
    whole_threshold,
)
from neuromoco.unsupported import RefusedError

ROOM = 2.0  # the readout holds sums so many times larger than those seen


@dataclass(frozen=True, eq=False)
class IntegerSynapse:
    """The same, rounded.

    Attributes:
        weight: int32 [O, I / groups, kh, kw].
        bias: int32 [O].
        scale: a weight is so many times the float one.
        neuron: what it drives.
        clipped: how many weights and biases did not fit, and were cut to the largest.
    """

    weight: Integers
    bias: Integers
    scale: float
    neuron: Neuron
    clipped: int


def round_synapse(synapse: FloatSynapse, lif: LIF, clipping: float = 1.0) -> IntegerSynapse:
    """Whole weights and biases, and the neuron to go with them.

    Args:
        synapse: float weights.
        lif: the neurons that take its result.
        clipping: how much finer than the exact rule; weights beyond 127 are cut.

    Raises:
        RefusedError: no threshold in range fits these weights.
    """
    drive = _drive(lif)
    threshold = whole_threshold(clipping * synapse.finest, drive)
    if threshold < 0:
        raise RefusedError(
            f"a threshold of {lif.v_threshold:g} below the grain of its weights (vThMant {threshold}); "
            "raise it, or train with --quantize loihi"
        )
    return _rounded(synapse, exact_scale(threshold, drive), Neuron(threshold, _decay(lif)))


def readout(synapse: FloatSynapse, largest_sum: float) -> IntegerSynapse:
    """Whole weights and biases of a layer whose membranes add up the logits.

    Args:
        synapse: float weights.
        largest_sum: of the logits over time, as far as seen.
    """
    room = LARGEST_THRESHOLD / (ROOM * largest_sum) if largest_sum else math.inf
    return _rounded(synapse, min(synapse.finest, room), READOUT)


def attention_neuron(lif: LIF, scale: float, largest: int) -> tuple[int, Neuron]:
    """The gain of whole-numbered products, and the neuron that fires where the graph's does.

    The gain is the largest power of two that fits: as many bits can drop before products on the threshold could go
    the other way.

    Args:
        lif: the graph's neurons.
        scale: of the graph's product.
        largest: product that can occur.

    Raises:
        RefusedError: products or a threshold beyond the range.
    """
    if largest >= LARGEST_DRIVE:
        raise RefusedError(f"products of up to {largest} for 17 bits; use fewer tokens or more heads")
    theta = _drive(lif) / scale
    room = min((LARGEST_DRIVE - 1) / largest, LARGEST_THRESHOLD / theta)
    if room < 1.0:
        raise RefusedError(f"a threshold of {lif.v_threshold:g} after attention, beyond 17 bits; lower it")
    gain = 1 << int(math.log2(room))
    threshold = math.ceil(round(theta * gain, 6)) - 1  # 4.0000001 of rounding is 4
    return gain, Neuron(threshold, _decay(lif))


def _drive(lif: LIF) -> float:
    """g v_th: what the input has to reach from rest, in one step."""
    return lif.v_threshold * (lif.tau if lif.decay_input else 1.0)


def _decay(lif: LIF) -> int:
    return 0 if math.isinf(lif.tau) else round(FULL_DECAY / lif.tau)


def _rounded(synapse: FloatSynapse, scale: float, neuron: Neuron) -> IntegerSynapse:
    (weight, cut), (bias, cut_bias) = (
        _whole(values * scale, most)
        for values, most in ((synapse.weight, LARGEST_WEIGHT), (synapse.bias, LARGEST_BIAS))
    )
    if not weight.any():
        raise RefusedError(
            f"a bias of {np.abs(synapse.bias).max():g} that leaves no grain for weights of up to "
            f"{np.abs(synapse.weight).max():g}; train with weights and biases closer to each other"
        )
    return IntegerSynapse(weight, bias, scale, neuron, cut + cut_bias)


def _whole(values: NDArray[np.float64], most: int) -> tuple[Integers, int]:
    """Rounded values within +-most, and how many of them were beyond."""
    rounded = np.rint(values)
    return rounded.clip(-most, most).astype(np.int32), int((np.abs(rounded) > most).sum())
