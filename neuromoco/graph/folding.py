"""Folding scales and shifts, such as batch norms, into the layers before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from neuromoco.graph.nodes import Affine, Conv, Graph, Linear, Node, bias_terms


def fold_affine(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Folds each `Affine` into the convolution or linear layer before it, if that has no other user."""
    return fold_affine_named(nodes)[0]


def fold_affine_named(nodes: Sequence[Node]) -> tuple[tuple[Node, ...], dict[str, str]]:
    """The nodes with each `Affine` folded; and by name of those, in order, the layer that took it in."""
    result: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    users = Graph(tuple(nodes)).users
    for node in nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        before = result.get(inputs[0]) if inputs else None
        if isinstance(node, Affine) and isinstance(before, Conv | Linear) and len(users[node.inputs[0]]) == 1:
            result[before.name] = _scaled(before, node)
            renamed[node.name] = before.name
        else:
            result[node.name] = replace(node, inputs=inputs)
    return tuple(result.values()), renamed


def _scaled(node: Conv | Linear, affine: Affine) -> Node:
    weight = affine.weight.astype(np.float64).reshape(-1, *(1,) * (node.weight.ndim - 1))
    bias = affine.weight.astype(np.float64) * node.bias + affine.bias
    terms = np.abs(affine.weight * bias_terms(node)) + bias_terms(affine)
    weight = weight * node.weight
    return replace(node, weight=weight.astype(np.float32), bias=bias.astype(np.float32), terms=terms.astype(np.float32))
