"""Pictures of recordings, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.errors import MissingExtraError
from neuromoco.support.figures import frame_colours, new_figure, save_figure, set_title
from neuromoco.sweep.summary import WORDS, column_title, row_title

if TYPE_CHECKING:
    from neuromoco.events.survey import Survey

CURVE_POINTS = 200


def draw_survey(path: Path, survey: Survey, title: str) -> None:
    """Writes a PNG of a whole recording: events by pixel, and their rate over time."""
    if find_spec("matplotlib") is None:  # of `train` and `app`, whose other packages a picture does without
        raise MissingExtraError("a picture", "app")
    figure = new_figure(9.0, 3.6)
    picture, rate = figure.subplots(1, 2, width_ratios=(1, 1.4))
    extent = (0, survey.width, survey.height, 0)
    picture.imshow(frame_colours(survey.image[None])[0], interpolation="nearest", extent=extent)
    picture.set_title("events by pixel: orange ON, blue OFF", fontsize=9)
    rates, seconds = survey.rate_curve(CURVE_POINTS)
    rate.stairs(rates / 1e3, np.arange(len(rates) + 1) * seconds, fill=True, color="0.55")
    rate.set_title("thousand events per second", fontsize=9)
    rate.set_xlabel("seconds from the first event")
    rate.set_ylim(bottom=0)
    set_title(figure, f"{title}: {survey.source}, {survey.events:,} events")
    save_figure(figure, path)


def draw_frames(path: Path, frames: NDArray[np.integer[Any]], title: str) -> None:
    """Writes a PNG of frames [T, P, H, W], one panel per time step."""
    figure = new_figure(2.1 * len(frames) + 0.3, 2.7)
    for step, colours in enumerate(frame_colours(frames)):
        axes = figure.add_subplot(1, len(frames), step + 1)
        axes.imshow(colours, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"step {step + 1}: {int(frames[step].sum()):,} events", fontsize=9)
    set_title(figure, f"{title}   orange ON, blue OFF")
    save_figure(figure, path)


def draw_sweep(path: Path, results: Mapping[str, Any]) -> None:
    """Writes a PNG of a sweep's accuracies over the number of labels, with the standard deviation over seeds.

    One panel per measure; training from scratch is in all of them.
    """
    rows, columns = results["rows"], results["labels"]
    measures = list(dict.fromkeys(row["measure"] for row in rows if row["measure"] != "supervised"))
    names = list(dict.fromkeys(row["setting"] for row in rows if row["setting"] != "-"))
    panels = measures or ["supervised"]
    figure = new_figure(2.4 + 3.2 * len(panels), 4.2)
    for axes, measure in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
        here = [row for row in rows if row["measure"] in (measure, "supervised")]
        for number, row in enumerate(here):
            _draw_row(axes, row, columns, names, 0.04 * (number - len(here) / 2))
        axes.set_xticks(range(len(columns)), [column_title(labels) for labels in columns], rotation=30)
        axes.set_title(WORDS[measure], fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=8)
    figure.axes[0].set_ylabel("accuracy, %")
    set_title(figure, f"{results['name']}: mean and standard deviation over seeds, last epoch")
    save_figure(figure, path)


def _draw_row(axes: Any, row: Mapping[str, Any], columns: Sequence[str], names: Sequence[str], shift: float) -> None:
    """Draws one curve, shifted a little so that error bars do not overlap; a setting has one colour in all panels."""
    places = [i for i, labels in enumerate(columns) if labels in row["labels"]]
    figures = [row["labels"][columns[i]] for i in places]
    scratch = row["measure"] == "supervised"
    axes.errorbar(
        np.array(places) + shift,
        [100 * one["mean"] for one in figures],
        [100 * (one["sd"] or 0.0) for one in figures],
        marker="o",
        linestyle="--" if scratch else "-",
        color=f"C{names.index(row['setting']) % 10}" if row["setting"] in names else "0.4",
        capsize=2,
        label=row_title(row) if scratch else row["setting"],
    )
