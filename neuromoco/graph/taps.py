"""Where the network that was traced has the values of a graph."""

from __future__ import annotations

from dataclasses import dataclass

RESULT = ""  # the path of the network itself


@dataclass(frozen=True)
class Tap:
    """Where the network itself has the value of a node.

    Attributes:
        path: of the module that returns it, at once or step by step.
        axes: what the axes of that tensor count, see `layout`; None for [T, N, ...] in C order.
        is_mean: whether it is the mean over time.
    """

    path: str
    axes: tuple[tuple[int | str, ...], ...] | None
    is_mean: bool = False
