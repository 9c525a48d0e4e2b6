"""The tables of a league, so far: means over seeds whose folds chose nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.league.settings import COST, SCRATCH, LeagueConfig
from neuromoco.support.console import printable
from neuromoco.sweep.summary import WORDS, column_title

OWN = "mix"  # the method of this package
Row = tuple[str, str]  # method, measure
By = dict[str, dict[int, float]]  # labels -> seed -> a figure
SPREAD = "mean ± standard error (number of seeds)"


def statistics(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard error of figures of several seeds; no error of one."""
    array = np.array(values)
    error = float(array.std(ddof=1) / len(array) ** 0.5) if len(array) > 1 else None
    return {"mean": float(array.mean()), "error": error, "n": len(array)}


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> dict[str, Any] | None:
    """Differences from a reference, seed by seed, and how many are above 0; None without a common seed."""
    differences = [values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys())]
    if not differences:
        return None
    return statistics(differences) | {"above": sum(difference > 0 for difference in differences)}


def rows_of(results: Mapping[str, Any], contest: str, figure: str = "accuracy") -> dict[Row, By]:
    """A figure of the units of the table, by row, in the order of the methods; not those that chose."""
    league, folds = results["league"], results["league"]["folds"]
    chosen = results["choices"].get(contest, {}).get("chosen", {})
    rows: dict[Row, By] = {}
    for unit in results["units"]:
        seed, method = unit["seed"], unit["method"]
        counts = unit["set"] == contest and seed % folds and unit["trial"] == chosen.get(method, 0)
        if counts and figure in unit and unit["measure"] != "pretrain":
            rows.setdefault((method, unit["measure"]), {}).setdefault(unit["labels"], {})[seed] = unit[figure]
    methods, measures = list(league["methods"]), list(WORDS)
    return dict(sorted(rows.items(), key=lambda item: (methods.index(item[0][0]), measures.index(item[0][1]))))


def row_title(league: Mapping[str, Any], row: Row) -> str:
    """The title of a row."""
    title = str(league["methods"][row[0]]["title"])
    return f"{title}, {WORDS[row[1]]}" if league["methods"][row[0]]["kind"] == "pretrain" else title


def markdown(results: Mapping[str, Any]) -> str:
    """All tables as Markdown."""
    lines = ["# League", ""]
    problems = [unit for unit in results["units"] if "problem" in unit]
    for name, facts in results["sets"].items():
        title = results["league"]["sets"].get(name, {"title": name})["title"]
        lines += [f"## {title}", ""]
        if "absent" in facts:
            lines += [f"Left out: {facts['absent']}.", ""]
        else:
            lines += _of_set(results, name, facts)
    lines += [printable(f"Failed: {unit['unit']}: {unit['problem']}") for unit in problems]
    return "\n".join(lines).rstrip() + "\n"


def _of_set(results: Mapping[str, Any], name: str, facts: Mapping[str, Any]) -> list[str]:
    config = LeagueConfig.model_validate(results["league"])
    labels = [str(number) for number in config.labels]
    rows = rows_of(results, name)
    wanted = (
        len(labels)
        * len(config.table_seeds)
        * sum(3 if method.kind == "pretrain" else 1 for method in config.methods.values())
    )
    done = sum(len(by_seed) for by in rows.values() for by_seed in by.values())
    so_far = "" if done >= wanted else f" So far {done} of {wanted} results."
    intro = f"{facts['recordings']} recordings, {facts['classes']} classes, frames of {facts['frames']}.{so_far}"
    lines = [intro, "", f"Accuracy in %, last epoch: {SPREAD}.", ""]
    lines += _table(results, rows, labels, lambda row, number: _cell(statistics(list(rows[row][number].values()))))
    for reference, title in ((SCRATCH, "from scratch"), (OWN, f"{_title(results, OWN)}, fine-tuned")):
        base = rows.get((reference, "supervised" if reference == SCRATCH else "finetune"))
        if base is None:
            continue
        others = {row: by for row, by in rows.items() if by is not base}

        def difference(row: Row, number: str, base: By = base) -> str:
            return _cell(paired(rows[row][number], base.get(number, {})), "+.1f")

        lines += ["", f"Points above {title}, paired by seed: {SPREAD}, seeds above 0.", ""]
        lines += _table(results, others, labels, difference)
    highest = rows_of(results, name, "highest")

    def faked(row: Row, number: str) -> str:
        return _cell(paired(highest[row][number], rows[row][number]), "+.1f", above=False)

    if highest:
        lines += ["", "Points that choosing the best epoch on the test fold would have faked.", ""]
        lines += _table(results, highest, labels, faked)
    return [*lines, "", *_costs(results, name), "", *_choices(results, name), ""]


def _costs(results: Mapping[str, Any], name: str) -> list[str]:
    """What a step of each method costs, and what was measured."""
    lines = ["| | cost of a step | epochs | seconds of pre-training | seconds with labels |", "|---|---|---|---|---|"]
    for method, settings in results["league"]["methods"].items():
        own = [
            unit for unit in results["units"] if (unit["set"], unit["method"]) == (name, method) and "seconds" in unit
        ]
        before = [unit for unit in own if unit["measure"] == "pretrain"]
        after = [unit["seconds"] for unit in own if unit["measure"] != "pretrain"]
        cells = ["-", "-", "-", f"{np.mean(after):.0f}" if after else "-"]
        if before:
            cost = COST[settings["set"].get("pretrain.method", "moco")]
            cells[:3] = [str(cost), str(before[0]["epochs"]), f"{np.mean([unit['seconds'] for unit in before]):.0f}"]
        lines.append(f"| {settings['title']} | {' | '.join(cells)} |")
    return lines


def _choices(results: Mapping[str, Any], name: str) -> list[str]:
    choice = results["choices"].get(name, {"scores": {}, "chosen": {}})
    lines = ["Accuracy of the trials on the first fold, in %; the chosen one in bold.", ""]
    for method, scores in choice["scores"].items():
        settings = results["league"]["methods"][method]
        if len(scores) > 1:
            cells = []
            for trial, (changes, score) in enumerate(zip(settings["trials"], scores, strict=True)):
                what = ", ".join(f"{key} {value}" for key, value in changes.items()) or "as advised"
                text = f"{what}: {'-' if score is None else f'{100 * score:.1f}'}"
                cells.append(f"**{text}**" if choice["chosen"].get(method) == trial else text)
            lines.append(f"- {settings['title']}: {'; '.join(cells)}")
    return lines if len(lines) > 2 else []


def _title(results: Mapping[str, Any], method: str) -> str:
    return str(results["league"]["methods"].get(method, {"title": method})["title"])


def _table(
    results: Mapping[str, Any], rows: Mapping[Row, By], labels: Sequence[str], cell: Callable[[Row, str], str]
) -> list[str]:
    lines = ["| | " + " | ".join(map(column_title, labels)) + " |", "|---" * (len(labels) + 1) + "|"]
    for row, by in rows.items():
        cells = [cell(row, number) if number in by else "-" for number in labels]
        lines.append(f"| {row_title(results['league'], row)} | {' | '.join(cells)} |")
    return lines


def _cell(figure: Mapping[str, Any] | None, form: str = ".1f", above: bool = True) -> str:
    if figure is None:
        return "-"
    spread = "" if figure["error"] is None else f" ± {100 * figure['error']:.1f}"
    count = f", {figure['above']} of {figure['n']}" if above and "above" in figure else ""
    return f"{100 * figure['mean']:{form}}{spread} ({figure['n']}){count}"
