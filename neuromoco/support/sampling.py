"""Samples that need no random number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def evenly_spaced(items: Sequence[Item], at_most: int) -> list[Item]:
    """At most `at_most` of the items, evenly spaced from first to last; of sorted class folders, some of each."""
    count = min(at_most, len(items))
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]
