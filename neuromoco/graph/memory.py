"""What a recorder remembers: the tensors of the network, the names of its layers, and what becomes of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from zlib import crc32

import numpy as np
from torch import Tensor

from neuromoco.graph.functions import FACTS
from neuromoco.graph.layout import Value
from neuromoco.graph.nodes import Array, Node
from neuromoco.graph.taps import Tap
from neuromoco.unsupported import RefusedError, Unsupported

# Of inputs and outputs of exports, which no layer's spikes may have.
RESERVED = ("logits", "logits_per_step", "label", "spike_rates", "t", "x", "y", "p", "sensor")
LARGEST_SUM = 1 << 20  # numbers of a tensor that are looked at for changes


@dataclass
class Trace:
    """What one run of a network computes.

    Attributes:
        nodes: in the order of computing, batch norm not folded; the last computes the logits.
        modules: by node, the path of the module that it stands for; nodes of functions have none.
        unsupported: layers that the graph cannot express, in the order of computing.
        found: by node, the network's own numbers [T, N, *shape] at the first steps.
    """

    nodes: list[Node] = field(default_factory=list)
    modules: dict[str, str] = field(default_factory=dict)
    unsupported: list[Unsupported] = field(default_factory=list)
    found: dict[str, Array] = field(default_factory=dict)
    taps: dict[str, Tap] = field(default_factory=dict)  # of neurons


@dataclass
class Kept:
    """A tensor that the network computed. It is held here, or its id would be used again."""

    tensor: Tensor
    value: Value | None  # None behind an unsupported layer
    version: int
    sum: int  # of its bytes, for changes that torch does not count


class Memory:
    """The tensors that the network computed, and what they hold."""

    def __init__(self) -> None:
        self._kept: dict[int, Kept] = {}

    def get(self, tensor: Any) -> Kept | None:
        """What is known about a tensor of the network's."""
        return self._kept.get(id(tensor))

    def put(self, tensor: Tensor, value: Value | None) -> None:
        """Keeps what a tensor holds now."""
        self._kept[id(tensor)] = Kept(tensor, value, _version(tensor), _sum(tensor))

    def known(self, among: Any) -> list[Tensor]:
        """The network's tensors among arguments."""
        return [tensor for tensor in tensors_in(among) if self.get(tensor)]

    def stale(self, among: Any) -> list[str]:
        """The names of values among arguments that were changed since their layer computed them."""
        names = []
        for tensor in tensors_in(among):
            kept = self.get(tensor)
            if kept and (_version(tensor) != kept.version or _sum(tensor) != kept.sum):
                names.append(kept.value.node.name if kept.value else "a value")
        return names


def expect_fresh(stale: list[str]) -> None:
    """Refuses values that were changed behind the recorder's back."""
    if stale:
        raise RefusedError(
            f"takes {stale[0]}, which was changed in place through another tensor; write x = x + y, not x += y"
        )


class Names:
    """The names of layers and functions: the same one for all steps of a loop over time."""

    def __init__(self) -> None:
        self._taken = set(RESERVED)
        self._looped: dict[str, list[str]] = defaultdict(list)  # by name, the calls of it at the first step
        self._used: dict[tuple[str, int], int] = defaultdict(int)

    def place(self, name: str, step: int | None) -> str:
        """The name of a call's nodes, or what they begin with."""
        if step is None:
            return self.free(name)
        number, names = self._used[name, step], self._looped[name]
        self._used[name, step] += 1
        if number == len(names):
            if step:
                raise RefusedError(f"is not computed at each time step before step {step}; compute the same at all")
            names.append(self.free(name))
        return names[number]

    def free(self, name: str) -> str:
        """A name that nothing has, and that now is taken."""
        number, free = 2, name
        while free in self._taken:
            free, number = f"{name}_{number}", number + 1
        self._taken.add(free)
        return free


class StandIns:
    """The nodes that stand in for the values of what is not supported, so that the layers behind it are checked too."""

    def __init__(self) -> None:
        self._known: dict[
            str, tuple[Unsupported, list[str]]
        ] = {}  # by node, what it stands in for, and what that takes

    def put(self, refusal: Unsupported, values: Sequence[Value | None], before: Sequence[Value | None]) -> None:
        """Keeps what the nodes of `values` stand in for, and the values that it takes."""
        names = [value.node.name for value in before if value]
        self._known |= {value.node.name: (refusal, names) for value in values if value}

    def needed(self, trace: Trace, last: str) -> set[str]:
        """The nodes that the last one needs."""
        needed = {last}
        for node in reversed(trace.nodes):
            if node.name in needed:
                _, before = self._known.get(node.name, (None, []))
                needed.update((*node.inputs, *before))
        return needed

    def forget_unused(self, trace: Trace, needed: set[str]) -> None:
        """Drops refusals of what nothing needs; those of values that nothing stands in for remain."""
        kept = {id(refusal) for name, (refusal, _) in self._known.items() if name in needed}
        unused = {id(refusal) for refusal, _ in self._known.values()} - kept
        trace.unsupported = [refusal for refusal in trace.unsupported if id(refusal) not in unused]


class Membranes:
    """The membranes that neurons of other libraries return with their spikes, to be handed back one step later."""

    def __init__(self) -> None:
        self._last: dict[str, list[Tensor]] = {}

    def put(self, path: str, states: list[Tensor]) -> None:
        """Keeps those that neurons returned, by the path of their module."""
        self._last[path] = states

    def expect_own(self, path: str, given: list[Any]) -> None:
        """Refuses membranes that are neither at rest nor those that the same neurons returned one step before."""
        before, given = self._last.get(path, []), [state for state in given if state is not None]
        given = [tensor for state in given for tensor in tensors_in(state) or [state]]
        if before and given:
            if len(before) != len(given) or any(a is not b for a, b in zip(before, given, strict=True)):
                raise RefusedError("other membranes than it returned one step before; hand those on")
        elif any(not isinstance(state, Tensor) or bool(state.count_nonzero()) for state in given):
            raise RefusedError("membranes that are not at rest; begin with zeros")


def same_node(a: Node, b: Node) -> bool:
    """Whether two nodes compute the same, under the same names."""
    return (
        type(a) is type(b)
        and all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name != "windows")
        and getattr(a, "windows", None) == getattr(b, "windows", None)
    )


def _version(tensor: Tensor) -> int:
    """How often torch saw a tensor change in place; in inference mode it does not count."""
    return 0 if tensor.is_inference() else tensor._version


def _sum(tensor: Tensor) -> int:
    """Of the bytes of a tensor, or of some numbers of a large one."""
    flat = tensor.detach().reshape(-1)
    return crc32(flat[:: 1 + flat.numel() // LARGEST_SUM].cpu().numpy().tobytes())


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors among arguments or results, also those in lists."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for v in value for tensor in tensors_in(v)] if isinstance(value, tuple | list) else []


def plain_name(function: Any) -> str:
    """`add` for torch.add, Tensor.add_, Tensor.__add__ and Tensor.__iadd__; `shape` for the attribute."""
    name = str(getattr(function, "__name__", function))
    if name in ("__get__", "__set__"):
        attribute = str(getattr(function.__self__, "__name__", ""))
        return attribute if name == "__get__" else f"set {attribute}"
    if name.startswith("__i") and name.endswith("__") and name[3:-2] in ("add", "sub", "mul", "truediv", "div"):
        return name[3:-2]
    return name.strip("_") if name not in FACTS else name
