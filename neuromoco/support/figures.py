"""Figures as PNG files, drawn without a screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.support.console import printable
from neuromoco.support.files import writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colour-blind people can tell orange from blue; white means no event.
ON_COLOUR, OFF_COLOUR = (0.90, 0.38, 0.00), (0.00, 0.35, 0.70)
FULL_COLOUR_QUANTILE = 0.99  # counts above this quantile of the counts of active pixels are shown in full colour
COLUMNS = 4
MOST_IN_LEGEND = 8


def brightness(counts: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Event counts as shares of full colour, from 0 to 1."""
    active = counts[counts > 0]
    full = float(np.quantile(active, FULL_COLOUR_QUANTILE)) if active.size else 1.0
    shares: NDArray[np.float64] = np.minimum(counts / full, 1.0)
    return shares


def frame_colours(frames: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Counts [T, P, H, W] as colours [T, H, W, 3]: ON orange, OFF blue, white without events."""
    share = brightness(frames)[..., None]  # [T, P, H, W, 1]
    off, on = (1.0 - share[:, p] * (1.0 - np.array(c)) for p, c in enumerate((OFF_COLOUR, ON_COLOUR)))
    return on * off


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    return FigureCanvasAgg(Figure(figsize=(width, height), layout="constrained")).figure


def set_title(figure: Figure, text: str) -> None:
    """Writes a title over a figure; names in it are shown as they are, also with `$`, which begins a formula."""
    figure.suptitle(printable(text), fontsize=10, parse_math=False)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG; an interrupted write leaves no file."""
    with writing(path) as part:
        figure.savefig(part, dpi=150, format="png")


def draw_curves(path: Path, panels: Mapping[str, Mapping[str, Sequence[float | None]]], title: str) -> None:
    """Writes a PNG of curves over epochs: panel -> curve -> one value per epoch, or None where none was measured."""
    columns = min(COLUMNS, max(1, len(panels)))
    rows = -(-len(panels) // columns) or 1
    figure = new_figure(4.2 * columns, 3.0 * rows + 0.2)
    for number, (name, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        for label, values in curves.items():
            known = {epoch: value for epoch, value in enumerate(values, start=1) if value is not None}
            sparse = len(known) < max(3, len(values))
            axes.plot(list(known), list(known.values()), label=label, marker="o" if sparse else None, markersize=4)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if len(curves) > 1:
            fontsize = 5 if len(curves) > MOST_IN_LEGEND else 8
            axes.legend(fontsize=fontsize, ncols=1 + len(curves) // (2 * MOST_IN_LEGEND))
    set_title(figure, title)
    save_figure(figure, path)
