"""The rules, energies and sources of `table` as tables of Markdown, for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from neuromoco.export.chips.table import CHIPS, ENERGIES, SOURCES, Chip


def rules() -> str:
    """What each chip holds and lacks, a rule a row."""
    return _table(("chip", "rule", "source"), (row for chip in CHIPS for row in _rules(chip)))


def energies() -> str:
    """The energy of each operation, in pJ."""
    rows = (
        (each.name, f"{each.add:g}", f"{each.multiply_add or '-'}", _update(each.firing, each.silent), each.source)
        for each in ENERGIES
    )
    return _table(("pJ", "operation of a spike", "of a value", "step of a neuron with, without spike", "source"), rows)


def sources() -> str:
    """What the names of sources stand for."""
    return _table(("name", "source"), SOURCES.items())


def _rules(chip: Chip) -> Iterator[tuple[str, str, str]]:
    if core := chip.core:
        per = [f"{core.neurons:,} neurons"] if core.neurons else []
        per += [f"{core.axons:,} axons"] if core.axons else []
        each = "each weight of a convolution once" if core.shared else "each connection by itself"
        per.append(f"{core.bits / 8192:,.0f} KiB for weights of 8 bits, {each}")
        per += [f"{core.neuron_bits} bits a neuron in the same memory"] if core.neuron_bits else []
        yield chip.name, f"{core.count} cores of {', '.join(per)}", core.source
    if chip.memories:
        cores = ", ".join(f"{kernel // 1024} and {neurons // 1024} Ki" for kernel, neurons in chip.memories)
        yield chip.name, f"a core for each layer; words for weights and membranes: {cores}", chip.memory_source
    for limit in chip.limits:
        allowed = limit.allowed if isinstance(limit.allowed, int) else None
        words = f"at most {allowed:,}" if allowed is not None else ", ".join(map(str, limit.allowed))  # type: ignore[arg-type]
        yield chip.name, f"{limit.quantity}: {words}", limit.source
    for trait, (substitute, source) in chip.lacks.items():
        yield chip.name, f"no {trait}: {substitute}", source
    for note in chip.notes:
        yield chip.name, note, "-"


def _update(firing: float | None, silent: float | None) -> str:
    return "as of a value" if firing is None else f"{firing:g}, {silent:g}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]
    return "\n".join(lines)
