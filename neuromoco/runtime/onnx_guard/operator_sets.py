"""The operator sets of ONNX that files may use, and what changed between them."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np

OPSET = 18  # the one written by default; runtimes since 2023 support it
OPSETS = range(13, 22)
COUNTING = 16  # the first with ScatterElements that adds, by which a file counts events
AXES_AS_INPUT = 18  # the first in which all reductions take their axes as an input, and Split the number of its parts

Handle = TypeVar("Handle")


class Tape(Protocol[Handle]):
    """What writes operators one after another, of one operator set."""

    opset: int

    def op(self, kind: str, *inputs: Handle, **attributes: Any) -> Handle:
        """Adds an operator with one output."""

    def constant(self, value: Any, kind: type[np.generic] = ..., /) -> Handle:
        """An array in the file."""

    def ints(self, *values: int) -> Handle:
        """A vector of int64."""


def reduced(tape: Tape[Handle], kind: str, value: Handle, *axes: int, **attributes: Any) -> Handle:
    """A reduction over axes, such as ReduceMean."""
    if tape.opset < AXES_AS_INPUT:
        return tape.op(kind, value, axes=axes, **attributes)
    return tape.op(kind, value, tape.ints(*axes), **attributes)
