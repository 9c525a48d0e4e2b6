"""Damage to plain data, as JSON and YAML hold it: one value is another one, is missing, or is there twice."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]
VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 64, 255, 1000, 65_535, 1 << 20, 1 << 31, (1 << 63) - 1, 1 << 63, -(1 << 63), 10**30),
    *(0.0, -0.5, 1e-300, 1e308, float("nan"), float("inf"), True, False, None),
    *("", "x", "a\x1b[31m", "\u202e", "x" * 5000, "../../etc/passwd", "1e9", [], {}, [0], [[1]], {"": 0}, DEEP),
)


def damaged_tree(tree: Any, rng: np.random.Generator) -> Any:
    """A copy with one change."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places:
        return VALUES[int(rng.integers(len(VALUES)))]
    holder, key = places[int(rng.integers(len(places)))]
    change = int(rng.integers(6))
    if change == 0:
        del holder[key]
    elif change == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif change == 1:
        holder[f"{key}x"] = holder.pop(key)
    elif change == 2 and isinstance(holder[key], int | float):
        holder[key] += int(rng.integers(-3, 4))
    else:
        holder[key] = VALUES[int(rng.integers(len(VALUES)))]
    return tree


def _places(node: Any) -> Any:
    if isinstance(node, dict):
        entries: Any = list(node.items())
    elif isinstance(node, list):
        entries = list(enumerate(node))
    else:
        return
    for key, value in entries:
        yield node, key
        yield from _places(value)
