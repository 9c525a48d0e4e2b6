"""Float weights as Loihi's integers: the scale of every layer.

A neuron of the graph fires where g h[t] >= g v_th, with g h[t] = keep g v[t-1] + x[t] and g = tau where the input
decays, else 1. Times s, with integer weights s w, this is the neuron of `neuromoco.runtime.loihi.blocks`: v = 64 s g h,
which fires for v > 64 v_threshold. The rule for s is in `neuromoco.snn.loihi_ranges`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromoco.export.to_loihi.synapses import FloatSynapse
from neuromoco.graph.nodes import LIF
from neuromoco.runtime.loihi.blocks import FULL_DECAY, LARGEST_DRIVE, READOUT, Integers, Neuron
from neuromoco.snn.loihi_ranges import LARGEST_BIAS, LARGEST_THRESHOLD, LARGEST_WEIGHT, exact_scale, whole_threshold
from neuromoco.unsupported import RefusedError

ROOM = 2.0  # the readout holds sums this many times larger than those measured


@dataclass(frozen=True, eq=False)
class IntegerSynapse:
    """Weights and biases rounded to integers, as a `LoihiConv` holds them."""

    weight: Integers  # [O, I / groups, kh, kw]
    bias: Integers  # [O]
    scale: float  # ratio of an integer weight to its float weight
    neuron: Neuron  # that it drives
    clipped: int  # number of weights and biases that were cut to the range


def round_synapse(synapse: FloatSynapse, lif: LIF, clipping: float = 1.0) -> IntegerSynapse:
    """Integer weights and biases, `clipping` times finer than the exact rule, and the neurons that fit them."""
    threshold = whole_threshold(clipping * synapse.finest, lif.drive)
    if threshold < 0:
        raise RefusedError(
            f"a threshold of {lif.v_threshold:g} below the grain of its weights (vThMant {threshold}); "
            "raise it, or train with --quantize loihi"
        )
    return _rounded(synapse, exact_scale(threshold, lif.drive), Neuron(threshold, _decay(lif)))


def readout(synapse: FloatSynapse, largest_sum: float) -> IntegerSynapse:
    """Integer weights and biases of the layer whose membranes add up the logits, measured up to `largest_sum`."""
    room = LARGEST_THRESHOLD / (ROOM * largest_sum) if largest_sum else math.inf
    return _rounded(synapse, min(synapse.finest, room), READOUT)


def attention_neuron(lif: LIF, scale: float, largest: int) -> tuple[int, Neuron]:
    """The gain of integer products, and the neurons that fire where the graph's do.

    The gain is the largest power of two that fits the `largest` possible product: so many bits can drop before a
    product at the threshold flips. `scale` is that of the graph's product.
    """
    if largest >= LARGEST_DRIVE:
        raise RefusedError(f"products of up to {largest} for 17 bits; use fewer tokens or more heads")
    theta = lif.drive / scale
    room = min((LARGEST_DRIVE - 1) / largest, LARGEST_THRESHOLD / theta)
    if room < 1.0:
        raise RefusedError(f"a threshold of {lif.v_threshold:g} after attention, beyond 17 bits; lower it")
    gain = 1 << int(math.log2(room))
    threshold = math.ceil(round(theta * gain, 6)) - 1  # 4.0000001 of rounding is 4
    return gain, Neuron(threshold, _decay(lif))


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
    """Rounded values within +-most, and the number of those that were cut."""
    rounded = np.rint(values)
    return rounded.clip(-most, most).astype(np.int32), int((np.abs(rounded) > most).sum())
