"""Layers that an exporter cannot express, with reasons and substitutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuromoco.errors import UnsupportedLayerError


class RefusedError(Exception):
    """Why a layer cannot be exported, and what to use instead."""


@dataclass(frozen=True)
class Unsupported:
    """A layer that a target cannot express: its place in the network, its kind, why, and a substitute."""

    name: str
    layer: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.layer}: {self.reason}"


def refuse(unsupported: Sequence[Unsupported]) -> None:
    """Raises UnsupportedLayerError if there are unsupported layers; it names the first, and the number of others."""
    if unsupported:
        more = f" (and {len(unsupported) - 1} more; --check lists them)" if len(unsupported) > 1 else ""
        raise UnsupportedLayerError(f"{unsupported[0]}{more}")
