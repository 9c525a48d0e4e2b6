"""The rules of torch's functions between layers.

A rule has the signature of its function: an argument that it does not name is refused, and so is a function without a
rule. It takes a `Call` and the function's arguments, of which tensors that the network computed are looked up with
`Call.value`, and returns the values of the function's results.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from neuromoco.graph import arithmetic, loops, parts, shapes
from neuromoco.graph.calls import Call
from neuromoco.graph.layout import Value
from neuromoco.graph.rules import KNOWN
from neuromoco.support.untrusted import one_line
from neuromoco.unsupported import RefusedError


def call_rule(call: Call, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Value]:
    """The values of a function's results; refuses a function or an argument that is not read."""
    rule = FUNCTIONS.get(name)
    if rule is None:
        raise RefusedError(SUBSTITUTES.get(name, f"known are {KNOWN}"))
    known = inspect.signature(rule)
    for word in kwargs:
        if word not in known.parameters:
            raise RefusedError(f"argument {word}={one_line(repr(kwargs[word]))}; omit it")
    try:
        bound = known.bind(call, *args, **kwargs)
    except TypeError as error:
        raise RefusedError(f"arguments that are not read ({error}); known are those of {known}") from None
    result = rule(*bound.args, **bound.kwargs)
    return result if isinstance(result, list) else [result]


FUNCTIONS: dict[str, Callable[..., Value | list[Value]]] = {
    "add": arithmetic.add,
    "radd": arithmetic.radd,
    "sub": arithmetic.sub,
    "subtract": arithmetic.sub,
    "rsub": arithmetic.rsub,
    "neg": arithmetic.neg,
    "negative": arithmetic.neg,
    "mul": arithmetic.mul,
    "multiply": arithmetic.mul,
    "rmul": arithmetic.mul,
    "div": arithmetic.div,
    "divide": arithmetic.div,
    "true_divide": arithmetic.div,
    "truediv": arithmetic.div,
    "rdiv": arithmetic.rdiv,
    "rtruediv": arithmetic.rdiv,
    "matmul": arithmetic.matmul,
    "bmm": arithmetic.matmul,
    "rmatmul": arithmetic.rmatmul,
    "flatten": shapes.flatten,
    "reshape": shapes.reshape,
    "view": shapes.reshape,
    "squeeze": shapes.squeeze,
    "unsqueeze": shapes.squeeze,
    "unflatten": shapes.unflatten,
    "transpose": shapes.transpose,
    "swapaxes": shapes.transpose,
    "swapdims": shapes.transpose,
    "permute": shapes.permute,
    "mT": shapes.swap_last,
    "contiguous": shapes.copy,
    "clone": shapes.copy,
    "detach": shapes.copy,
    "float": shapes.copy,
    "data": shapes.copy,
    "cpu": shapes.copy,
    "to": shapes.to,
    "mean": shapes.mean,
    "sum": shapes.sum_over,
    "getitem": loops.getitem,
    "unbind": loops.unbind,
    "chunk": parts.chunk,
    "split": parts.split,
    "narrow": parts.narrow,
    "stack": loops.stack,
    "cat": loops.cat,
    "concat": loops.cat,
    "concatenate": loops.cat,
}
# Substitutes for common functions; the message for others lists what is known.
SUBSTITUTES = {
    "relu": "use a neuron, such as neuromoco.snn.neurons.lif",
    "softmax": "spiking attention has none; use spikingjelly's layer.SpikingSelfAttention",
    "layer_norm": "use batch norm, which folds into the layer before it",
    "setitem": "a write into a part of a tensor; collect the parts in a list and use torch.stack",
    "bool": "the network's course depends on a value; compute the same for all recordings",
    "item": "the network's course depends on a value; compute the same for all recordings",
}
# What says something about a tensor that its numbers do not change, or makes another of its shape without them.
FACTS = frozenset(
    [
        *("shape", "size", "dim", "ndim", "ndimension", "dtype", "device", "numel", "nelement", "stride", "__len__"),
        *("is_contiguous", "layout", "is_cuda", "is_cpu", "is_mps", "is_meta", "is_sparse", "is_quantized"),
        *("is_nested", "is_leaf", "requires_grad", "requires_grad_", "grad", "grad_fn", "names", "has_names"),
        *("is_floating_point", "is_complex", "get_device", "element_size", "itemsize", "storage_offset", "_base"),
        *("_version", "is_inference", "retains_grad", "output_nr", "is_same_size", "register_hook", "retain_grad"),
        *("new_zeros", "new_ones", "new_empty", "new_full", "zeros_like", "ones_like", "empty_like", "full_like"),
        *("rand_like", "randn_like", "__repr__", "__str__", "__format__", "__hash__"),
    ]
)
