"""What a sweep found: means and spreads over seeds, and differences to the same encoder from scratch, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuromoco.sweep.plan import Plan, Unit
from neuromoco.sweep.workers import Outcome

WORDS = {"finetune": "fine-tuned", "supervised": "from scratch", "knn": "kNN", "linear": "linear probe"}
Row = tuple[str, str]  # the settings, the measure
Figures = Mapping[Row, Mapping[str, Mapping[int, float]]]  # row -> labels -> seed -> accuracy


def summarize(plan: Plan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All that a sweep found, as plain data for JSON.

    Args:
        plan: the sweep.
        outcomes: what became of its units, in the plan's order.

    Returns:
        "units": every unit's figures. "rows": for each setting and measure, by number of labels: "mean" and "sd" (of
        the sample, None for one seed) over n seeds. "differences": the same of the accuracy less that from scratch
        with the same seed and labels, and on how many seeds it was above 0. "failed": what was not done, and why.
    """
    figures: dict[Row, dict[str, dict[int, float]]] = {}
    scratch: dict[str, dict[str, dict[int, float]]] = {}
    for unit, result, _ in outcomes:
        if result is None or "accuracy" not in result:
            continue
        row = (_settings_words(plan, unit), str(unit.kind))
        figures.setdefault(row, {}).setdefault(str(unit.labels), {})[unit.config.seed] = result["accuracy"]
        if unit.kind == "supervised":
            for setting in unit.settings:
                scratch.setdefault(setting, {})[str(unit.labels)] = figures[row][str(unit.labels)]
    order = {kind: number for number, kind in enumerate(plan.sweep.measures)}
    rows = sorted(figures, key=lambda row: order[row[1]])  # type: ignore[index]
    return {
        "name": plan.name,
        **plan.to_json(),
        "labels": [str(labels) for labels in plan.sweep.labels_per_class],
        "rows": [_row(row, {n: _spread(by_seed) for n, by_seed in figures[row].items()}) for row in rows],
        "differences": [
            _row(row, differences) for row in rows if (differences := _differences(row, figures[row], scratch))
        ],
        "units": [_unit(unit, result) for unit, result, _ in outcomes if result is not None],
        "failed": [{"unit": unit.name, "problem": problem} for unit, _, problem in outcomes if problem],
    }


def markdown(results: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    lines = [f"# {results['name']}", "", f"Accuracy in %, last epoch: {SPREAD}.", ""]
    lines += _table(results, "rows", accuracy_words)
    if results["differences"]:
        lines += ["", f"Points above the same encoder from scratch, paired by seed: {SPREAD}, seeds above 0.", ""]
        lines += _table(results, "differences", difference_words)
    lines += ["", *(f"Failed: {failed['unit']}: {failed['problem']}" for failed in results["failed"])]
    return "\n".join(lines).rstrip() + "\n"


SPREAD = "mean ± standard deviation over seeds (number of seeds)"


def row_words(row: Mapping[str, Any]) -> str:
    """A row's name."""
    return f"{row['setting']}, {WORDS[row['measure']]}".removeprefix("-, ")


def labels_words(labels: str) -> str:
    """A column's name."""
    return "all labels" if labels == "all" else f"{labels} a class"


def unit_words(unit: Unit) -> str:
    """A unit's name for people."""
    what = "pre-trained" if unit.kind == "pretrain" else f"{WORDS[unit.kind]}, {labels_words(str(unit.labels))}"
    return f"{', '.join(unit.settings)}: {what}, seed {unit.config.seed}"


def accuracy_words(figure: Mapping[str, Any] | None) -> str:
    """A cell of the table of accuracies."""
    if figure is None:
        return "-"
    spread = "" if figure["sd"] is None else f" ± {100 * figure['sd']:.1f}"
    return f"{100 * figure['mean']:.1f}{spread} ({figure['n']})"


def difference_words(figure: Mapping[str, Any] | None) -> str:
    """A cell of the table of differences."""
    if figure is None:
        return "-"
    spread = "" if figure["sd"] is None else f" ± {100 * figure['sd']:.1f}"
    return f"{100 * figure['mean']:+.1f}{spread} ({figure['n']}), {figure['above']} of {figure['n']}"


def _table(results: Mapping[str, Any], name: str, words: Any) -> list[str]:
    columns = results["labels"]
    lines = ["| | " + " | ".join(labels_words(n) for n in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in results[name]:
        lines.append(f"| {row_words(row)} | " + " | ".join(words(row["labels"].get(n)) for n in columns) + " |")
    return lines


def _settings_words(plan: Plan, unit: Unit) -> str:
    """The names of the settings that a unit stands for; "-" where it is the same with all of several."""
    everything = len(unit.settings) == len(plan.sweep.settings) > 1
    return "-" if everything else ", ".join(unit.settings)


def _row(row: Row, by_labels: Mapping[str, Any]) -> dict[str, Any]:
    return {"setting": row[0], "measure": row[1], "labels": dict(by_labels)}


def _unit(unit: Unit, result: Mapping[str, Any]) -> dict[str, Any]:
    held = unit.config.held_out
    facts = {"settings": list(unit.settings), "measure": unit.kind, "labels": unit.labels, "seed": unit.config.seed}
    return {"unit": unit.name, **facts, "fold": held.fold if held else None, **result}


def _spread(by_seed: Mapping[int, float]) -> dict[str, Any]:
    values = np.array(list(by_seed.values()))
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
        "n": len(values),
    }


def _differences(
    row: Row, by_labels: Mapping[str, Mapping[int, float]], scratch: Mapping[str, Mapping[str, Mapping[int, float]]]
) -> dict[str, Any]:
    """By number of labels, where the same was done from scratch."""
    names, measure = row
    beside = next((scratch[name] for name in scratch if names == "-" or name in names.split(", ")), {})
    found = {}
    for labels, by_seed in by_labels.items() if measure != "supervised" else ():
        paired = {
            seed: value - beside[labels][seed] for seed, value in by_seed.items() if seed in beside.get(labels, {})
        }
        if paired:
            found[labels] = _spread(paired) | {"above": sum(value > 0 for value in paired.values())}
    return found
