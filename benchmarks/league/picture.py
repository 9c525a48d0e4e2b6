"""Accuracy over the number of labels, a panel a set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.league.settings import LeagueConfig
from benchmarks.league.table import row_title, rows_of, statistics
from neuromoco.support.figures import new_figure, save_figure

SHOWN = ("finetune", "supervised")  # probes would hide the rest


def draw(path: Path, results: Mapping[str, Any]) -> None:
    """Writes the picture as PNG, if there is anything to show."""
    labels = [str(number) for number in LeagueConfig.model_validate(results["league"]).labels]
    panels = {name: rows_of(results, name) for name, facts in results["sets"].items() if "absent" not in facts}
    panels = {name: rows for name, rows in panels.items() if rows}
    if not panels:
        return
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(5.5 * columns, 4.2 * lines)
    for number, (name, rows) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, columns, number + 1)
        for row, by in rows.items():
            if row[1] not in SHOWN:
                continue
            known = [index for index, count in enumerate(labels) if count in by]
            figures = [statistics(list(by[labels[index]].values())) for index in known]
            axes.errorbar(
                known,
                [100 * one["mean"] for one in figures],
                [100 * (one["error"] or 0.0) for one in figures],
                label=row_title(results["league"], row),
                marker="o",
                markersize=3,
                capsize=2,
                linestyle="--" if row[1] == "supervised" else "-",
            )
        axes.set_xticks(range(len(labels)), labels)
        axes.set_title(results["league"]["sets"][name]["title"], fontsize=10, parse_math=False)
        axes.set_xlabel("labels of each class")
        axes.set_ylabel("accuracy, %")
        axes.grid(alpha=0.3)
        if number == 0:
            axes.legend(fontsize=7)
    save_figure(figure, path)
