"""Loihi's ranges, and the scale at which a layer fits them: one rule for training and export.

With folded weights w and biases b, a threshold v_th and g = tau where a neuron's input decays (else 1), a layer has

    vThMant = floor(min(127 / max|w|, 4095 / max|b|) * g * v_th - 1 / 64), at most 131071
    s = (vThMant + 1 / 64) / (g * v_th)
    round(s * w) within +-127, round(s * b) within +-4095

The 1 / 64 is there because integers pass an integer threshold by at least one, and a synapse of weight 1 adds 64 to a
membrane.
"""

from __future__ import annotations

import math

LARGEST_WEIGHT = 127  # 8 bits with a sign
LARGEST_BIAS = 4095  # 12 bits and a sign
LARGEST_THRESHOLD = 131_071  # 17 bits
UNIT = 64  # what a synapse of weight 1 adds to a membrane


def finest_scale(largest_weight: float, largest_bias: float) -> float:
    """The largest scale at which weights and biases are in range; infinite if all of them are 0."""
    grain = max(largest_weight / LARGEST_WEIGHT, largest_bias / LARGEST_BIAS)
    return 1.0 / grain if grain else math.inf


def whole_threshold(finest: float, drive: float) -> int:
    """vThMant of neurons with g * v_th = `drive` at a scale of at most `finest`; negative if none fits."""
    return min(math.floor(min(finest * drive, LARGEST_THRESHOLD + 1) - 1 / UNIT), LARGEST_THRESHOLD)


def exact_scale(threshold: int, drive: float) -> float:
    """s of neurons with this vThMant."""
    return (threshold + 1 / UNIT) / drive
