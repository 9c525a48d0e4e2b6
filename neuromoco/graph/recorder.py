"""Follows the tensors of one forward pass, and records a node for every layer and function.

Real tensors flow, so a forward pass of any style can be traced, with its shapes, branches and loops over time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neuromoco.errors import NeuromocoError
from neuromoco.graph import memory, rules
from neuromoco.graph.calls import check_results
from neuromoco.graph.functions import FACTS, call_rule
from neuromoco.graph.layout import EACH, MEAN, Sizes, Value, describe, leading, numbered, settled
from neuromoco.graph.memory import Memory, Trace, expect_fresh, plain_name, tensors_in
from neuromoco.graph.nodes import LIF, Array, Input, Node, Reshape
from neuromoco.graph.taps import RESULT, Tap
from neuromoco.support.untrusted import one_line
from neuromoco.unsupported import RefusedError, Unsupported

JUDGED_STEPS = 4  # of a run, the first ones: layers without state are the same at all, and states begin at rest
PREFIX = "encoder.body."  # is removed from the names of nodes


@dataclass
class _Call:
    """A layer's or function's call; see `functions.Call`."""

    recorder: Recorder
    place: str
    results: list[Tensor]
    step: int | None
    sizes: Sizes
    nodes: list[Node] = field(default_factory=list)  # that it adds or, at a later step, finds again

    def value(self, tensor: Any) -> Value | None:
        kept = self.recorder.memory.get(tensor)
        return kept.value if kept else None

    def keep(self, node: Node) -> Node:
        node = self.recorder.keep(node, self.step)
        self.nodes.append(node)
        return node


class Recorder(TorchFunctionMode):
    """Follows tensors through one forward pass and records nodes for every layer and function."""

    def __init__(self, network: nn.Module, frames: Tensor, prefix: str = PREFIX, logits: bool = True) -> None:
        """Takes frames [T, N, ...]; `prefix` is removed from names, and `logits` demands a vector as the result."""
        super().__init__()
        self.prefix, self.logits = prefix, logits
        self.network = network
        self.trace = Trace()
        self.sizes = Sizes(*frames.shape[:2])
        self.memory = Memory()
        self._nodes: dict[str, Node] = {}
        self._names = memory.Names()
        self._containers: list[str] = []
        self._layers: list[str] = []  # that are being computed, each inside the one before
        self._stale: list[str] = []
        self._stand_ins = memory.StandIns()
        self._inner: dict[str, Tensor] = {}  # spikes of neurons inside of a layer, by path
        self._membranes = memory.Membranes()
        self._neurons: dict[str, str] = {}  # by path of the module, the node
        self._fired: dict[str, int] = defaultdict(int)  # steps that neurons that see one step per call have seen
        self._steps: dict[str, dict[int, Array]] = defaultdict(dict)

    def run(self, frames: Tensor) -> Trace:
        frames = frames.to(next((one.device for one in self.network.parameters()), torch.device("cpu")))
        node = self.keep(Input(name=self._names.free("frames"), inputs=(), shape=tuple(frames.shape[2:])), None)
        self._hold(frames, Value(node, (("T",), ("N",), *numbered(len(node.shape)))))
        try:
            with self._hooks(), self:
                result = self.network(frames)
        except NeuromocoError:
            raise
        except Exception as error:  # of the user's code
            if not self.trace.unsupported:
                place = (self._layers or self._containers or [""])[-1].removeprefix(self.prefix) or "network"
                sides = " x ".join(map(str, frames.shape))
                reason = f"fails on frames [T, N, ...] of {sides} ({one_line(error)}); let it take any T and N"
                self.trace.unsupported.append(Unsupported(place, "forward", reason))
            return self.trace
        self._finish(result)
        return self.trace

    def _finish(self, result: Any) -> None:
        """Keeps the nodes that the result needs, with what they were found to compute."""
        try:
            value = self._result(result)
        except RefusedError as refusal:
            if not self.trace.unsupported:
                self.trace.unsupported.append(Unsupported("network", "result", str(refusal)))
            return
        needed = self._stand_ins.needed(self.trace, value.node.name)
        self._stand_ins.forget_unused(self.trace, needed)
        for name, count in self._fired.items():
            if name in needed and count != self.sizes.steps:
                reason = f"comes from {name}, which saw {count} of {self.sizes.steps} time steps"
                self.trace.unsupported.append(Unsupported("network", "result", reason))
        needed.add(self.trace.nodes[0].name)
        self.trace.nodes = [node for node in self.trace.nodes if node.name in needed]
        for name, steps in self._steps.items():
            if name not in self.trace.found and sorted(steps) == list(range(len(steps))):
                self.trace.found[name] = np.concatenate([steps[t] for t in range(len(steps))])
        self.trace.found = {name: numbers for name, numbers in self.trace.found.items() if name in needed}

    def _result(self, result: Any) -> Value:
        kept = self.memory.get(result) if isinstance(result, Tensor) else None
        if kept is None:
            what = "a tensor that no layer made" if isinstance(result, Tensor) else f"a {type(result).__name__}"
            raise RefusedError(f"is {what}; return the logits of its last layer")
        expect_fresh(self.memory.stale(result))
        if kept.value is None:
            raise RefusedError("comes from membranes or an unsupported layer; return what spikes lead to")
        value, nodes = settled(kept.value, self._names.free("result"))
        self.trace.taps[RESULT] = Tap(RESULT, value.axes, value.when == MEAN)
        for node in nodes:
            self.keep(node, None)
        if value.when not in (EACH, MEAN) or "N" not in [label for group in value.axes for label in group]:
            raise RefusedError(f"is {describe(value)}; return [T, N, classes], or its mean over time")
        if len(value.node.shape) != 1 and self.logits:
            raise RefusedError(f"is {describe(value)}, no logits; end in a linear layer, [T, N, classes]")
        return value

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, plain_name(func)
        if self._layers or name in FACTS:
            return func(*args, **kwargs)
        involved = self.memory.known((args, kwargs))
        stale = self.memory.stale(involved)
        result = func(*args, **kwargs)
        if involved:
            container = f"{self._containers[-1]}." if self._containers and self._containers[-1] else ""
            results = tensors_in(result)
            written = [tensor for tensor in tensors_in((args, kwargs)) if any(tensor is one for one in results)]
            into_a_part = any(tensor._base is not None and not self.memory.get(tensor) for tensor in written[:1])
            rule = partial(self._function, name, args, kwargs, stale, into_a_part)
            self._write(container + name, name, involved, results, rule, in_place=bool(written))
        return result

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        """Records calls of layers; calls of other modules name the functions in them."""
        with ExitStack() as hooks:
            for path, module in self.network.named_modules():
                enter, leave = self._layer_hooks(path) if rules.is_layer(module) else self._container_hooks(path)
                hooks.callback(module.register_forward_pre_hook(enter).remove)
                hooks.callback(module.register_forward_hook(leave, with_kwargs=True).remove)
            yield

    def _layer_hooks(self, path: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def enter(module: nn.Module, args: Any) -> None:
            self._layers.append(path)  # and so what is computed here is not recorded as functions
            if len(self._layers) == 1:
                self._stale = self.memory.stale(args)

        def leave(module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            stateful = rules.is_stateful(module)
            involved = self.memory.known(args[:1] if stateful else (args, kwargs))
            results = tensors_in(result)
            results, states = (results[:1], results[1:]) if stateful else (results, [])
            if len(self._layers) > 1:
                if type(module) in rules.NEURONS:
                    self._inner[path] = result.detach().clone()
            elif involved:
                rule = partial(self._layer, path, module, args, kwargs, self._stale)
                self._write(path, rules.describe(module), involved, results, rule)
                for state in states:
                    self._hold(state, None)
                self._membranes.put(path, states)
            self._layers.pop()

        return enter, leave

    def _container_hooks(self, path: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def enter(*_: Any) -> None:
            self._containers.append(path)

        def leave(*_: Any) -> None:
            self._containers.pop()

        return enter, leave

    def _write(
        self,
        name: str,
        what: str,
        involved: list[Tensor],
        results: list[Tensor],
        rule: Callable[[_Call], list[Value]],
        in_place: bool = False,
    ) -> None:
        """Records the nodes of a rule, or why there are none; `in_place` of one that writes into its arguments."""
        values = [kept.value for tensor in involved if (kept := self.memory.get(tensor))]
        name = name.removeprefix(self.prefix)
        if any(value is None for value in values):  # behind an unsupported layer of unknown axes
            found: list[Value | None] = [None] * len(results)
        else:
            steps = {value.when for value in values if value}
            step = values[0].step if values[0] and len(steps) == 1 else None
            place = name
            try:
                place = self._names.place(name, step)
                call = _Call(self, place, results, step, self.sizes)
                found = [*check_results(call, rule(call))]
            except RefusedError as refusal:
                self.trace.unsupported.append(Unsupported(place, what, str(refusal)))
                found = [self._guess(name, tensor) for tensor in results]
                if not in_place:
                    self._stand_ins.put(self.trace.unsupported[-1], found, values)
        for tensor, value in zip(results, found, strict=True):
            self._hold(tensor, value)

    def _layer(
        self, path: str, module: nn.Module, args: Any, kwargs: Any, stale: list[str], call: _Call
    ) -> list[Value]:
        expect_fresh(stale)
        rule = rules.rule_of(module)
        if rule is None:
            raise RefusedError(rules.SUBSTITUTES.get(type(module).__name__, f"known are {rules.KNOWN}"))
        if rules.is_stateful(module):
            self._membranes.expect_own(path, [*args[1:], *kwargs.values()])
            args, kwargs = args[:1], {}
        if kwargs or len(args) != 1:
            raise RefusedError("takes more than one argument, or takes it by name; give it its input alone")
        x = call.value(args[0])
        if x is None:
            raise RefusedError("takes a tensor that no layer made")
        if fires := type(module) in rules.NEURONS or rules.is_stateful(module) or rules.is_recordings_first(module):
            self._neuron(path, module, x, call)
        if fires or type(module) in rules.ELEMENTWISE:
            nodes = rule(call.place, module, x.node)
            value = replace(x, node=nodes[-1] if nodes else x.node)
        elif type(module) in rules.ON_LAST_AXIS:
            nodes, value = rules.on_last_axis(rule, call.place, module, x)
        else:
            ahead = 2 if getattr(module, "step_mode", None) == "m" or type(module) in rules.MULTI_STEP else 1
            front = leading(x, ahead)
            x, moved = settled(x, f"{call.place}.input")
            nodes = [*moved, *rule(call.place, module, moved[-1] if moved else x.node)]
            x = replace(x, node=nodes[-1] if nodes else x.node)
            value = replace(x, axes=(*front, *numbered(len(x.node.shape))))
        nodes = [call.keep(node) for node in nodes]
        for node in nodes:
            inner = path + node.name.removeprefix(call.place)
            self.trace.modules[node.name] = inner
            if isinstance(node, LIF):
                self.trace.taps[node.name] = Tap(inner, value.axes if inner == path else None)
            if inner in self._inner and inner != path:
                shape = (self.sizes.steps, self.sizes.batch, *node.shape)
                self.trace.found[node.name] = self._inner.pop(inner).cpu().numpy().reshape(shape)[:JUDGED_STEPS]
        return [value]

    def _neuron(self, path: str, module: Any, x: Value, call: _Call) -> None:
        """Checks that neurons see each time step of each recording once, in order."""
        if self._neurons.setdefault(path, call.place) != call.place:
            raise RefusedError("a neuron that is used twice; give each place its own")
        if rules.is_recordings_first(module):
            if x.axes[:2] != (("N",), ("T",)) and x.axes[:1] != (("N", "T"),):
                raise RefusedError(f"takes {describe(x)}; give it [N, T, ...], or [N * T, ...] to its Squeeze")
        elif getattr(module, "step_mode", "s") == "m":
            if not x.axes or x.axes[0] != ("T",):
                raise RefusedError("a neuron that does not take [T, N, ...]; keep it out of SeqToANNContainer")
        elif x.step is None:
            way = "set step_mode='m'" if hasattr(module, "step_mode") else "loop over time, or give steps= and one step"
            raise RefusedError(f"takes one time step per call; {way}")
        elif x.step != self._fired[call.place]:
            raise RefusedError(f"sees step {x.step} after {self._fired[call.place]} steps; give it all, in order")
        else:
            self._fired[call.place] += 1

    def _function(
        self, name: str, args: Any, kwargs: Any, stale: list[str], into_a_part: bool, call: _Call
    ) -> list[Value]:
        expect_fresh(stale)
        if into_a_part:
            raise RefusedError("a write into a part of a tensor; collect the parts in a list and use torch.stack")
        return call_rule(call, name, args, kwargs)

    def keep(self, node: Node, step: int | None) -> Node:
        """Adds a node; in a loop over time, the nodes of the first step stand for all steps."""
        known = self._nodes.get(node.name)
        if known is not None and step:
            if not memory.same_node(known, node):
                raise RefusedError(f"computes something else at step {step} than before; compute the same at all steps")
            return known
        if known is not None:
            raise RefusedError(f"would be called {node.name}, as another layer is; rename that")
        self._nodes[node.name] = node
        self.trace.nodes.append(node)
        return node

    def _hold(self, tensor: Tensor, value: Value | None) -> None:
        self.memory.put(tensor, value)
        if value is None or (name := value.node.name) in self.trace.found:
            return
        if value.when == EACH:
            self.trace.found[name] = self.sizes.array(value, tensor, JUDGED_STEPS)
        elif value.step is not None and value.step < JUDGED_STEPS:
            self._steps[name].setdefault(value.step, self.sizes.array(value, tensor))

    def _guess(self, name: str, tensor: Tensor) -> Value | None:
        """A stand-in for an unsupported layer's value, so that the layers behind it are checked too."""
        if (front := self.sizes.front(tensor)) is None:
            return None
        shape = tuple(tensor.shape[len(front) :])
        node = self.keep(Reshape(name=self._names.free(f"{name}.unknown"), inputs=(), shape=shape), None)
        return Value(node, (*front, *numbered(len(shape))))
