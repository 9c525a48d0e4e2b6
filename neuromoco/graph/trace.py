"""From a trained network to the graph: the network runs once, and its layers are recorded.

Real tensors flow, so a forward pass of any style can be traced, with its shapes and branches. Layers with a rule and a
few functions between them become nodes; anything else that touches a value is an unsupported layer. One run finds all
of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from spikingjelly.activation_based import base
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neuromoco.classifier import Classifier
from neuromoco.frames import POLARITIES
from neuromoco.graph import rules
from neuromoco.graph.nodes import LIF, Graph, Input, Node, Reshape, Shape, fold_affine
from neuromoco.snn.neurons import evaluation_mode, reset_state
from neuromoco.unsupported import RefusedError, Unsupported, refuse

# Different, and neither is 1, so that the leading axes of a shape can be recognized.
STEPS, BATCH = 2, 3
PREFIX = "encoder.body."  # is removed from the names of nodes


def lower(network: Classifier, height: int, width: int) -> Graph:
    """The graph of a classifier for frames of this size, batch norm folded; refuses unsupported layers."""
    recording = trace(network, height, width)
    refuse(recording.unsupported)
    return Graph(fold_affine(recording.nodes))


@dataclass
class Trace:
    """What one run of a network computes.

    Attributes:
        nodes: in the order of computing, batch norm not folded; the last computes the logits.
        modules: by node, the path of the module that it stands for; nodes of functions have none.
        unsupported: layers that the graph cannot express, in the order of computing.
    """

    nodes: list[Node] = field(default_factory=list)
    modules: dict[str, str] = field(default_factory=dict)
    unsupported: list[Unsupported] = field(default_factory=list)


@torch.no_grad()
def trace(network: Classifier, height: int, width: int) -> Trace:
    """Runs a classifier once on frames of this size, and records its layers and functions."""
    with evaluation_mode(network):
        try:
            return _Recorder(network).run(height, width)
        finally:
            reset_state(network)


class _Recorder(TorchFunctionMode):
    """Follows tensors through one forward pass and records nodes for every layer and function.

    A tensor of a node of shape S is [T, N, *S], or [T * N, *S] where layers see single frames.
    """

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network
        self.trace = Trace()
        self._values: dict[int, tuple[Tensor, Node]] = {}  # holds the tensor, or its id would be used again
        self._containers: list[str] = []
        self._in_layer = False
        self._neurons: set[str] = set()

    def run(self, height: int, width: int) -> Trace:
        device = next(self.network.parameters()).device
        frames = torch.ones(STEPS, BATCH, POLARITIES, height, width, device=device)
        self._keep([Input(name="frames", inputs=(), shape=(POLARITIES, height, width))], frames)
        with self._hooks(), self:
            logits = self.network(frames)
        if not self.trace.unsupported and self._node(logits) is not self.trace.nodes[-1]:
            self.trace.unsupported.append(Unsupported("network", "result", "does not come from its last layer"))
        return self.trace

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        results = _tensors(result)
        if not self._in_layer and results and any(self._node(value) for value in _tensors(args)):
            name = _plain_name(func)
            container = f"{self._containers[-1]}." if self._containers and self._containers[-1] else ""
            self._write(container + name, name, results, lambda place: self._function(place, name, args, results))
        return result

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        """Records calls of layers; calls of other modules name the functions in them."""
        with ExitStack() as hooks:
            for path, module in self.network.named_modules():
                enter, leave = self._layer_hooks(path) if _is_layer(module) else self._container_hooks(path)
                hooks.callback(module.register_forward_pre_hook(enter).remove)
                hooks.callback(module.register_forward_hook(leave).remove)
            yield

    def _layer_hooks(self, path: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def enter(*_: Any) -> None:
            self._in_layer = True

        def leave(module: nn.Module, args: Any, result: Any) -> None:
            self._in_layer = False
            if any(self._node(value) for value in _tensors(args)):
                rule = lambda place: self._layer(place, path, module, args)  # noqa: E731
                self._write(path, rules.describe(module), _tensors(result), rule)

        return enter, leave

    def _container_hooks(self, path: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def enter(*_: Any) -> None:
            self._containers.append(path)

        def leave(*_: Any) -> None:
            self._containers.pop()

        return enter, leave

    def _write(self, name: str, what: str, results: list[Tensor], rule: Callable[[str], list[Node]]) -> None:
        """Records the nodes of a rule, or why there are none."""
        place = self._free(name.removeprefix(PREFIX))
        try:
            nodes = rule(place)
        except RefusedError as refusal:
            self.trace.unsupported.append(Unsupported(place, what, str(refusal)))
            # A placeholder, so that the layers behind it are checked too.
            nodes = [Reshape(name=place, inputs=(), shape=tuple(results[0].shape[2:]))]
        for result in results:
            self._keep(nodes, result)

    def _layer(self, place: str, path: str, module: nn.Module, args: Any) -> list[Node]:
        rule, x = rules.LAYERS.get(type(module)), self._node(args[0])
        if rule is None or x is None:
            raise RefusedError(f"known are {rules.KNOWN}")
        nodes = rule(place, module, x)
        if any(isinstance(node, LIF) for node in nodes):
            if args[0].shape[:2] != (STEPS, BATCH):
                raise RefusedError("a neuron that does not take [T, N, ...]; keep it out of SeqToANNContainer")
            if path in self._neurons:
                raise RefusedError("a neuron that is used twice; give each place its own")
            self._neurons.add(path)
        self.trace.modules |= {node.name: path + node.name.removeprefix(place) for node in nodes}
        return nodes or [x]

    def _function(self, place: str, name: str, args: Any, results: list[Tensor]) -> list[Node]:
        x = self._node(args[0])
        if name in rules.COPIES | rules.RESHAPES and x is not None:
            shape = _one_step(results[0].shape)
            return [x] if shape == x.shape else [Reshape(name=place, inputs=(x.name,), shape=shape)]
        if name == "mean" and x is not None:
            return rules.mean_over_space(place, x, _one_step(results[0].shape))
        if name in rules.FUNCTIONS:
            a, b = (self._operand(value) for value in args[:2])
            return rules.FUNCTIONS[name](place, a, b)
        raise RefusedError(rules.SUBSTITUTES.get(name, f"known are {rules.KNOWN}"))

    def _operand(self, value: Any) -> Node | float:
        node = self._node(value)
        if node is None and isinstance(value, Tensor):
            raise RefusedError("with a tensor that no layer made; use a number, or batch norm")
        return node or float(value)

    def _node(self, value: Any) -> Node | None:
        return self._values[id(value)][1] if id(value) in self._values else None

    def _keep(self, nodes: list[Node], result: Tensor) -> None:
        self.trace.nodes += [node for node in nodes if node not in self.trace.nodes]
        self._values[id(result)] = (result, nodes[-1])

    def _free(self, name: str) -> str:
        taken, number, free = {node.name for node in self.trace.nodes}, 2, name
        while free in taken:
            free, number = f"{name}_{number}", number + 1
        return free


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is one layer; of other modules, the children are looked at."""
    if type(module) in rules.LAYERS or isinstance(module, base.MemoryModule):
        return True
    known = type(module).__module__.startswith(("torch.nn.", "spikingjelly."))
    return known and not isinstance(module, nn.Flatten | nn.Identity) and not any(True for _ in module.children())


def _one_step(shape: torch.Size) -> Shape:
    """A tensor's shape without time steps and recordings."""
    if tuple(shape[:2]) == (STEPS, BATCH):
        return tuple(shape[2:])
    if shape[0] == STEPS * BATCH:
        return tuple(shape[1:])
    raise RefusedError(f"mixes time steps or recordings with other axes (its result is {tuple(shape)})")


def _tensors(value: Any) -> list[Tensor]:
    """The tensors among arguments or results, also those in lists."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for v in value for tensor in _tensors(v)] if isinstance(value, tuple | list) else []


def _plain_name(function: Any) -> str:
    """`add` for torch.add, Tensor.add_, Tensor.__add__ and Tensor.__iadd__."""
    name: str = function.__name__.strip("_")
    return name[1:] if name.startswith("i") and name[1:] in rules.FUNCTIONS else name
