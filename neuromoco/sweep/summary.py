"""Results of a sweep: means and spreads over seeds, and differences from training from scratch, paired by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from neuromoco.support.console import printable
from neuromoco.sweep.plan import Plan, Unit
from neuromoco.sweep.workers import Outcome

WORDS = {"finetune": "fine-tuned", "supervised": "from scratch", "knn": "kNN", "linear": "linear probe"}
SPREAD = "mean ± standard deviation over seeds (number of seeds)"
Row = tuple[str, str]  # the settings, the measure


def summarize(plan: Plan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The results of a sweep from the outcomes in the plan's order, as data for JSON.

    Returns:
        "units": result of each unit. "rows": for each setting and measure, by number of labels, the accuracy: "mean"
        and "sd" (of the sample, None for one seed) over "n" seeds. "differences": the same of the accuracy minus that
        from scratch with the same seed and labels, and the number of seeds "above" 0. "failed": failed units.
    """
    figures: dict[Row, dict[str, dict[int, float]]] = {}
    scratch: dict[str, dict[str, dict[int, float]]] = {}
    for unit, result, _ in outcomes:
        if result is None or "accuracy" not in result:
            continue
        shared = len(unit.settings) == len(plan.sweep.settings) > 1
        row = ("-" if shared else ", ".join(unit.settings), str(unit.kind))
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
        "rows": [_row(row, {n: _statistics(by_seed) for n, by_seed in figures[row].items()}) for row in rows],
        "differences": [
            _row(row, differences) for row in rows if (differences := _differences(row, figures[row], scratch))
        ],
        "units": [_unit(unit, result) for unit, result, _ in outcomes if result is not None],
        "failed": [{"unit": unit.name, "problem": problem} for unit, _, problem in outcomes if problem],
    }


def markdown(results: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    lines = [f"# {results['name']}", "", f"Accuracy in %, last epoch: {SPREAD}.", ""]
    lines += _table(results, "rows", accuracy_cell)
    if results["differences"]:
        lines += ["", f"Points above the same encoder from scratch, paired by seed: {SPREAD}, seeds above 0.", ""]
        lines += _table(results, "differences", difference_cell)
    lines += ["", *(printable(f"Failed: {failed['unit']}: {failed['problem']}") for failed in results["failed"])]
    return "\n".join(lines).rstrip() + "\n"


def row_title(row: Mapping[str, Any]) -> str:
    """The title of a row."""
    return f"{row['setting']}, {WORDS[row['measure']]}".removeprefix("-, ")


def column_title(labels: str) -> str:
    """The title of a column, by its number of labels."""
    return "all labels" if labels == "all" else f"{labels} per class"


def unit_title(unit: Unit) -> str:
    """The title of a unit."""
    what = "pre-trained" if unit.kind == "pretrain" else f"{WORDS[unit.kind]}, {column_title(str(unit.labels))}"
    return f"{', '.join(unit.settings)}: {what}, seed {unit.config.seed}"


def accuracy_cell(figure: Mapping[str, Any] | None) -> str:
    """A cell of the table of accuracies."""
    return "-" if figure is None else _percent(figure, ".1f")


def difference_cell(figure: Mapping[str, Any] | None) -> str:
    """A cell of the table of differences."""
    return "-" if figure is None else f"{_percent(figure, '+.1f')}, {figure['above']} of {figure['n']}"


def _percent(figure: Mapping[str, Any], form: str) -> str:
    spread = "" if figure["sd"] is None else f" ± {100 * figure['sd']:.1f}"
    return f"{100 * figure['mean']:{form}}{spread} ({figure['n']})"


def _table(results: Mapping[str, Any], name: str, cell: Callable[[Mapping[str, Any] | None], str]) -> list[str]:
    columns = results["labels"]
    lines = ["| | " + " | ".join(map(column_title, columns)) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in results[name]:
        lines.append(f"| {row_title(row)} | " + " | ".join(cell(row["labels"].get(n)) for n in columns) + " |")
    return lines


def _row(row: Row, by_labels: Mapping[str, Any]) -> dict[str, Any]:
    return {"setting": row[0], "measure": row[1], "labels": dict(by_labels)}


def _unit(unit: Unit, result: Mapping[str, Any]) -> dict[str, Any]:
    held = unit.config.held_out
    facts = {"settings": list(unit.settings), "measure": unit.kind, "labels": unit.labels, "seed": unit.config.seed}
    return {"unit": unit.name, **facts, "fold": held.fold if held else None, **result}


def _statistics(by_seed: Mapping[int, float]) -> dict[str, Any]:
    values = np.array(list(by_seed.values()))
    spread = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"mean": float(values.mean()), "sd": spread, "n": len(values)}


def _differences(
    row: Row, by_labels: Mapping[str, Mapping[int, float]], scratch: Mapping[str, Mapping[str, Mapping[int, float]]]
) -> dict[str, Any]:
    """Differences from scratch by number of labels, for the seeds that have both."""
    names, measure = row
    reference = next((scratch[name] for name in scratch if names == "-" or name in names.split(", ")), {})
    differences = {}
    for labels, by_seed in by_labels.items() if measure != "supervised" else ():
        baseline = reference.get(labels, {})
        paired = {seed: value - baseline[seed] for seed, value in by_seed.items() if seed in baseline}
        if paired:
            differences[labels] = _statistics(paired) | {"above": sum(value > 0 for value in paired.values())}
    return differences
