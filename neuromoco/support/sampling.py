"""An evenly chosen sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def evenly_spaced(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spaced, first and last among them: of sorted class folders, every class."""
    count = min(most, len(items))
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]
