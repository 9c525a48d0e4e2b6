"""The nodes for neurons of other libraries; see `rules`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor

from neuromoco.graph import nodes as op
from neuromoco.support.untrusted import one_line
from neuromoco.unsupported import RefusedError

SMALLEST_BETA = 1e-3  # below it, what a spike leaves to subtract drowns the membrane's digits
SMALLEST_THRESHOLD = 1e-30  # the slope at it must be a float32


def spiking(name: str, module: Any, x: op.Node) -> list[op.Node]:
    if module.v_reset not in (None, 0.0):
        raise RefusedError(f"a reset to {module.v_reset}; use v_reset=0.0")
    steps = torch.tensor([-2.0, -1e-6, 0.0, 1e-6, 2.0])
    if module.surrogate_function(steps).tolist() != [0.0, 0.0, 1.0, 1.0, 1.0]:
        raise RefusedError("a surrogate function that gives no spikes; set its spiking=True")
    tau, decay_input = math.inf, False
    if isinstance(module, neuron.ParametricLIFNode):
        tau, decay_input = 1.0 / _number("w", torch.sigmoid(module.w)), bool(module.decay_input)
    elif isinstance(module, neuron.LIFNode):
        tau, decay_input = _number("tau", module.tau), bool(module.decay_input)
    if not tau >= 1.0:
        raise RefusedError(f"tau {tau:g}, which makes membranes grow or alternate; use 1 or more")
    threshold = _number("v_threshold", module.v_threshold)
    if not SMALLEST_THRESHOLD <= threshold < math.inf:
        raise RefusedError(f"a threshold of {threshold:g}; use a positive one, and change the sign of the weights")
    constants: dict[str, Any] = {"tau": tau, "v_threshold": threshold, "decay_input": decay_input}
    soft = module.v_reset is None
    return [op.LIF(name=name, inputs=(x.name,), shape=x.shape, **constants, soft_reset=soft)]


def snntorch_leaky(name: str, module: Any, x: op.Node) -> list[op.Node]:
    """snnTorch's Leaky, which fires above its threshold, and whose reset acts on the next step, not decayed:

    mem[t] = beta * mem[t-1] + x[t] - threshold * s[t-1], or beta * mem[t-1] * (1 - s[t-1]) + x[t]
    """
    steps = torch.tensor([-2.0, -1e-6, 0.0, 1e-6, 2.0])
    if module.spike_grad(steps).tolist() != [0.0, 0.0, 0.0, 1.0, 1.0]:
        raise RefusedError("a spike_grad that fires at other values than those above 0; omit it")
    plain = {"inhibition": False, "state_quant": False, "reset_delay": True}
    for option, usual in plain.items():
        if getattr(module, option) is not usual:
            raise RefusedError(f"{option}={one_line(repr(getattr(module, option)))}; use {usual}")
    if _number("graded_spikes_factor", module.graded_spikes_factor) != 1.0:
        raise RefusedError("a graded_spikes_factor; use 1, and scale the weights of the layer behind")
    beta = min(1.0, max(0.0, _number("beta", module.beta)))
    threshold, reset = _number("threshold", module.threshold), int(module.reset_mechanism_val)
    above = _just_above(threshold)
    if reset not in (0, 1):
        raise RefusedError(f"reset_mechanism {module.reset_mechanism!r}; use 'subtract' or 'zero'")
    soft = reset == 0
    if soft and beta < SMALLEST_BETA:
        raise RefusedError(f"beta {beta:g} with reset_mechanism 'subtract'; use {SMALLEST_BETA} or more, or 'zero'")
    constants: dict[str, Any] = {
        "tau": math.inf if beta == 1.0 else 1.0 / (1.0 - beta),
        "v_threshold": above,
        "decay_input": False,
        "soft_reset": soft,
        "subtracted": threshold / beta if soft else None,
    }
    return [op.LIF(name=name, inputs=(x.name,), shape=x.shape, **constants)]


def snntorch_synaptic(name: str, module: Any, x: op.Node) -> list[op.Node]:
    """snnTorch's Synaptic: a Leaky whose input is a current that leaks.

    syn[t] = alpha * syn[t-1] + x[t];  mem[t] = beta * mem[t-1] + syn[t] - threshold * s[t-1]
    """
    if int(module.reset_mechanism_val) != 0:  # its reset to zero takes that step's current, too
        raise RefusedError(f"reset_mechanism {module.reset_mechanism!r} with a current; use 'subtract', or Leaky")
    alpha = min(1.0, max(0.0, _number("alpha", module.alpha)))
    current = op.Current(name=f"{name}.current", inputs=(x.name,), shape=x.shape, keep=alpha)
    return [current, *snntorch_leaky(name, module, current)]


def norse_lif_cell(name: str, module: Any, x: op.Node) -> list[op.Node]:
    """Norse's LIFCell, which fires above its threshold:

    i[t] = (1 - dt tau_syn_inv) i[t-1] + x[t];  h[t] = v[t-1] + dt tau_mem_inv (i[t] - v[t-1])
    """
    synapse = _number("dt", module.dt) * _number("tau_syn_inv", module.p.tau_syn_inv)
    if not 0 <= synapse <= 1:
        raise RefusedError(f"dt * tau_syn_inv = {synapse:g}; use 0 to 1")
    current = op.Current(name=f"{name}.current", inputs=(x.name,), shape=x.shape, keep=1.0 - synapse)
    return [current, _norse(name, module, current)]


def norse_lif_box_cell(name: str, module: Any, x: op.Node) -> list[op.Node]:
    """Norse's LIFBoxCell: h[t] = v[t-1] + dt tau_mem_inv (x[t] - v[t-1]), which fires above its threshold."""
    reset = getattr(module.p.reset_method, "__name__", "")
    if reset not in ("reset_value", "reset_subtract"):
        raise RefusedError("a reset_method of its own; use reset_value or reset_subtract")
    return [_norse(name, module, x, soft_reset=reset == "reset_subtract")]


def _norse(name: str, module: Any, x: op.Node, soft_reset: bool = False) -> op.LIF:
    p = module.p
    leak = _number("dt", module.dt) * _number("tau_mem_inv", p.tau_mem_inv)
    if not 0 < leak <= 1:
        raise RefusedError(f"dt * tau_mem_inv = {leak:g}, which makes membranes alternate or rest; use up to 1")
    for constant in ("v_leak", "v_reset"):
        if _number(constant, getattr(p, constant)) != 0.0 and not (soft_reset and constant == "v_reset"):
            raise RefusedError(f"{constant}={_number(constant, getattr(p, constant)):g}; use 0")
    threshold = _number("v_th", p.v_th)
    return op.LIF(
        name=name,
        inputs=(x.name,),
        shape=x.shape,
        tau=1.0 / leak,
        v_threshold=_just_above(threshold),
        decay_input=True,
        soft_reset=soft_reset,
        subtracted=threshold if soft_reset else None,
    )


def sinabs_lif(name: str, module: Any, x: op.Node) -> list[op.Node]:
    """sinabs' LIF and IAF of one spike a step: h[t] = alpha v[t-1] + (1 - alpha) x[t], or + x[t] without norm_input."""
    spikes, reset = getattr(module.spike_fn, "__name__", "no spikes"), module.reset_fn
    if spikes != "SingleSpike":
        raise RefusedError(f"{spikes}, several spikes in a step; use spike_fn=sinabs.activation.SingleSpike")
    if module.alpha_syn_calculated is not None or module.min_v_mem is not None:
        raise RefusedError("tau_syn or min_v_mem; use None")
    alpha = _number("alpha_mem", module.alpha_mem_calculated)
    if not 0 <= alpha <= 1 or (module.norm_input and alpha == 1):
        raise RefusedError(f"alpha_mem {alpha:g} with norm_input={module.norm_input}; use tau_mem above 0, or IAF")
    threshold = _number("spike_threshold", module.spike_threshold)
    if not SMALLEST_THRESHOLD <= threshold < math.inf:
        raise RefusedError(f"a threshold of {threshold:g}; use a positive one, and change the sign of the weights")
    kind = type(reset).__name__
    if kind not in ("MembraneReset", "MembraneSubtract") or getattr(reset, "reset_value", 0.0) != 0.0:
        raise RefusedError(f"reset_fn {one_line(repr(reset))}; use MembraneReset(0.0) or MembraneSubtract()")
    constants: dict[str, Any] = {
        "tau": math.inf if alpha == 1.0 else 1.0 / (1.0 - alpha),
        "v_threshold": threshold,
        "decay_input": bool(module.norm_input),
        "soft_reset": kind == "MembraneSubtract",
        "subtracted": getattr(reset, "subtract_value", None),
    }
    return [op.LIF(name=name, inputs=(x.name,), shape=x.shape, **constants)]


def _just_above(threshold: float) -> float:
    """The float32 above a threshold: what reaches it, exceeds that."""
    if not SMALLEST_THRESHOLD <= threshold < math.inf:
        raise RefusedError(f"a threshold of {threshold:g}; use a positive one, and change the sign of the weights")
    return float(np.nextafter(np.float32(threshold), np.float32(math.inf)))


def _number(name: str, value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() != 1:
        raise RefusedError(f"{name} of shape {tuple(value.shape)}; use one number for all neurons of the layer")
    return float(value)
