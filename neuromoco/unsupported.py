"""What an exporter cannot say of a network: one layer, why, and what to use instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuromoco.errors import UnsupportedLayerError


class RefusedError(Exception):
    """Why a layer has no counterpart, and what to use instead."""


@dataclass(frozen=True)
class Unsupported:
    """A layer that a target has no counterpart of.

    Attributes:
        name: its place in the network.
        layer: what it is.
        reason: what about it is not supported, and a substitute.
    """

    name: str
    layer: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.layer}: {self.reason}"


def refuse(unsupported: Sequence[Unsupported]) -> None:
    """Ends an export if there is anything that it cannot say.

    Raises:
        UnsupportedLayerError: names the first layer, and says how many more there are.
    """
    if unsupported:
        more = f" (and {len(unsupported) - 1} more; --check lists them)" if len(unsupported) > 1 else ""
        raise UnsupportedLayerError(f"{unsupported[0]}{more}")
