"""What of a network fits a chip, what does not, and what to shrink to which number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neuromoco.export.chips.layers import Layer, layers_of
from neuromoco.export.chips.quantities import OF_LAYERS, OF_NETWORKS, TRAITS, kernel_words, neuron_words
from neuromoco.export.chips.table import EXPORT, Chip, Core, Limit
from neuromoco.export.to_loihi.mapping import map_to_loihi
from neuromoco.export.to_loihi.resources import Resources, resources_of
from neuromoco.graph.nodes import Graph


@dataclass(frozen=True)
class Problem:
    """What does not fit.

    Attributes:
        layer: where, or None of the network.
        what: the quantity, or what the chip lacks.
        value: of the quantity; None of what is lacked.
        allowed: the largest value, or all that are allowed.
        advice: what to shrink, and to which number.
        source: a name in `table.SOURCES`.
    """

    layer: str | None
    what: str
    value: int | None
    allowed: str
    advice: str
    source: str


@dataclass(frozen=True)
class Fit:
    """A network on a chip.

    Attributes:
        problems: what does not fit; empty of a network that does.
        cores: that it takes of how many, where layers can be counted so.
        chips: that it takes, where it may be split over several.
    """

    chip: Chip
    problems: tuple[Problem, ...]
    cores: int | None = None
    of_cores: int | None = None

    @property
    def chips(self) -> int:
        """Chips that hold its cores."""
        return math.ceil(self.cores / self.of_cores) if self.cores and self.of_cores else 1

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        cores = {"cores": self.cores, "of_cores": self.of_cores, "chips": self.chips}
        problems = [asdict(problem) for problem in self.problems]
        return {"chip": self.chip.name, "fits": not problems, **cores, "problems": problems, "notes": self.chip.notes}


def fit(graph: Graph, chip: Chip) -> Fit:
    """Compares a network with a chip."""
    layers = layers_of(graph)
    problems = [*_lacked(layers, chip), *_beyond(layers, chip)]
    if chip.memories:
        placed, misfits = _place(layers, chip)
        return Fit(chip, (*problems, *misfits), placed, len(chip.memories))
    if chip.core is None:
        return Fit(chip, tuple(problems))
    counted: Sequence[Layer | Resources] = layers
    if chip.exported:
        loihi, unsupported = map_to_loihi(graph, 0.0)
        unsupported = unsupported or loihi.problems("extended")
        problems += [Problem(each.name, each.layer, None, "", each.reason, EXPORT) for each in unsupported]
        counted = layers if unsupported else [resources_of(block, loihi) for block in loihi.blocks[1:]]
    cores = sum(chip.core.needed(x.neurons, x.axons, x.connections, x.weights) for x in counted)
    return Fit(chip, (*problems, *_too_many(cores, chip.core, layers)), cores, chip.core.count)


def _lacked(layers: tuple[Layer, ...], chip: Chip) -> Iterator[Problem]:
    """What a chip does not compute: the first layer that needs it, and how many others do."""
    for trait, (substitute, source) in chip.lacks.items():
        names = [layer.name for layer in layers if TRAITS[trait](layer)]
        if names:
            others = f" (and {len(names) - 1} more layers)" if len(names) > 1 else ""
            yield Problem(names[0], f"{trait}{others}", None, "", substitute, source)


def _beyond(layers: tuple[Layer, ...], chip: Chip) -> Iterator[Problem]:
    for limit in chip.limits:
        if limit.quantity in OF_NETWORKS:
            value = OF_NETWORKS[limit.quantity](layers)
            if not limit.holds(value):
                yield _problem(limit, value, None, layers)
            continue
        for layer in layers:
            worst = max((v for v in OF_LAYERS[limit.quantity](layer) if not limit.holds(v)), default=None)
            if worst is not None:
                yield _problem(limit, worst, layer, layers)


def _problem(limit: Limit, value: int, layer: Layer | None, layers: tuple[Layer, ...]) -> Problem:
    most = limit.allowed if isinstance(limit.allowed, int) else max(limit.allowed)
    allowed = f"{most:,}" if isinstance(limit.allowed, int) else ", ".join(map(str, limit.allowed))
    advice = " or ".join(_advised(word, most / value, layer, layers) for word in limit.shrink)
    return Problem(layer.name if layer else None, limit.quantity, value, allowed, advice, limit.source)


def _advised(word: str, share: float, layer: Layer | None, layers: tuple[Layer, ...]) -> str:
    """What to shrink so that a quantity becomes this share of itself."""
    if word == "channels":
        if layer:
            return f"at most {int(layer.shape[0] * share)} instead of {layer.shape[0]} channels"
        return f"{1 / share:.1f} times fewer channels"
    if word == "inputs" and layer:
        inputs = layer.sources[0].shape[0]
        return f"at most {int(inputs * share)} instead of {inputs} channels before it"
    if word == "frames":
        sides = layers[0].graph.input.shape[1:]
        fewer = share if layer else math.sqrt(share)  # a layer's limit is one of its sides, a network's of its places
        smaller = " x ".join(str(int(side * fewer)) for side in sides)
        return f"frames of about {smaller} instead of {' x '.join(map(str, sides))} pixels"
    return f"use {word}"


def _too_many(cores: int, core: Core, layers: tuple[Layer, ...]) -> Iterator[Problem]:
    if cores > core.count:
        chips = math.ceil(cores / core.count)
        advice = f"use {chips} chips, or {_advised('channels', core.count / cores, None, layers)}"
        yield Problem(None, "cores", cores, f"{core.count:,}", advice, core.source)


def _place(layers: tuple[Layer, ...], chip: Chip) -> tuple[int, list[Problem]]:
    """How many layers find a core of their own, and those that fit none."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    problems = []
    fits = np.array([[_fits(layer, memory) for memory in chip.memories] for layer in layers])
    for layer, row in zip(layers, fits, strict=True):
        if not row.any():
            problems.append(_memory_problem(layer, layers, chip))
    matched = maximum_bipartite_matching(csr_array(fits), perm_type="column")
    placed = int(np.count_nonzero(matched >= 0))
    if not problems and placed < min(len(layers), len(chip.memories)):
        advice = "make the largest layers smaller, so that they fit the other cores"
        what = "layers that find a core with enough memory"
        problems.append(Problem(None, what, placed, f"{len(layers)}", advice, chip.memory_source))
    return placed, problems


def _fits(layer: Layer, memory: tuple[int, int]) -> bool:
    return kernel_words(layer) <= memory[0] and neuron_words(layer) <= memory[1]


def _memory_problem(layer: Layer, layers: tuple[Layer, ...], chip: Chip) -> Problem:
    """A layer that fits no core: what of the core that comes closest it exceeds most."""
    needs = kernel_words(layer), neuron_words(layer)
    memory = min(chip.memories, key=lambda memory: max(need / own for need, own in zip(needs, memory, strict=True)))
    part = 0 if needs[0] / memory[0] >= needs[1] / memory[1] else 1
    share, what = memory[part] / needs[part], ("words of weights", "words of membranes")[part]
    words = ("channels", "fewer channels before it" if part == 0 else "frames")
    advice = " or ".join(_advised(word, share, None if word == "frames" else layer, layers) for word in words)
    return Problem(layer.name, what, needs[part], f"{memory[part]:,}", advice, chip.memory_source)
