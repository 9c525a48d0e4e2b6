"""Pictures of recordings, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.extras import need
from neuromoco.figures import new_figure, save_figure
from neuromoco.sweep.summary import labels_words, row_words

if TYPE_CHECKING:
    from neuromoco.events.survey import Survey

# Orange and blue stay apart for colour-blind eyes; white is no event.
ON_COLOUR, OFF_COLOUR = (0.90, 0.38, 0.00), (0.00, 0.35, 0.70)
# Counts above this share of the pixels' counts are shown in full colour.
FULL_COLOUR_QUANTILE = 0.99
CURVE_POINTS = 200


def draw_survey(path: Path, survey: Survey, title: str) -> None:
    """Writes a PNG of a whole recording: events by pixel, and their rate over time."""
    need("app", "a picture")
    figure = new_figure(9.0, 3.6)
    picture, rate = figure.subplots(1, 2, width_ratios=(1, 1.4))
    extent = (0, survey.width, survey.height, 0)
    picture.imshow(frame_colours(survey.image[None])[0], interpolation="nearest", extent=extent)
    picture.set_title("events by pixel: orange ON, blue OFF", fontsize=9)
    used = (survey.last_us - survey.first_us) // survey.bin_us + 1
    together = -(-used // CURVE_POINTS)
    counts = survey.rate[: -(-used // together) * together].reshape(-1, together).sum(1)
    seconds = survey.bin_us * together / 1e6
    rate.stairs(counts / seconds / 1e3, np.arange(len(counts) + 1) * seconds, fill=True, color="0.55")
    rate.set_title("thousand events a second", fontsize=9)
    rate.set_xlabel("seconds from the first event")
    rate.set_ylim(bottom=0)
    figure.suptitle(f"{title}: {survey.source}, {survey.events:,} events", fontsize=10)
    save_figure(figure, path)


def frame_colours(frames: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Counts [T, P, H, W] as colours [T, H, W, 3]: ON orange, OFF blue, white where nothing happened."""
    active = frames[frames > 0]
    full = float(np.quantile(active, FULL_COLOUR_QUANTILE)) if active.size else 1.0
    share = np.minimum(frames / full, 1.0)[..., None]  # [T, P, H, W, 1]
    off, on = (1.0 - share[:, p] * (1.0 - np.array(c)) for p, c in enumerate((OFF_COLOUR, ON_COLOUR)))
    return on * off


def draw_frames(path: Path, frames: NDArray[np.integer[Any]], title: str) -> None:
    """Writes a PNG of frames [T, P, H, W], one panel a time step."""
    figure = new_figure(2.1 * len(frames) + 0.3, 2.7)
    for step, colours in enumerate(frame_colours(frames)):
        axes = figure.add_subplot(1, len(frames), step + 1)
        axes.imshow(colours, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"step {step + 1}: {int(frames[step].sum()):,} events", fontsize=9)
    figure.suptitle(f"{title}   orange ON, blue OFF", fontsize=10)
    save_figure(figure, path)


def draw_sweep(path: Path, results: Mapping[str, Any]) -> None:
    """Writes a PNG of a sweep's accuracies over the number of labels, with the standard deviation over seeds."""
    figure = new_figure(7.5, 4.2)
    axes = figure.add_subplot()
    columns = results["labels"]
    for number, row in enumerate(results["rows"]):
        places = [i for i, labels in enumerate(columns) if labels in row["labels"]]
        found = [row["labels"][columns[i]] for i in places]
        aside = np.array(places) + 0.02 * (number - len(results["rows"]) / 2)  # so that bars do not hide each other
        axes.errorbar(
            aside,
            [100 * one["mean"] for one in found],
            [100 * (one["sd"] or 0.0) for one in found],
            marker="os^Dv"[number // 10 % 5],
            linestyle="--" if row["measure"] == "supervised" else "-",
            capsize=2,
            label=row_words(row),
        )
    axes.set_xticks(range(len(columns)), [labels_words(labels) for labels in columns])
    axes.set_ylabel("accuracy, %")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8)
    figure.suptitle(f"{results['name']}: mean and standard deviation over seeds, last epoch", fontsize=10)
    save_figure(figure, path)
