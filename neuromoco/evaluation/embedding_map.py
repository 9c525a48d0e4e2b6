"""Draws a map of features as a PNG and as a self-contained HTML page."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.support.console import printable
from neuromoco.support.figures import new_figure, save_figure

Points = NDArray[np.floating[Any]]
UNKNOWN = "#888888"
MOST_IN_LEGEND = 24
SIDE, MARGIN = 1000, 30  # of the page's drawing
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; }}
body {{ max-width: 60rem; margin: 1rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.1rem; }} svg {{ width: 100%; height: auto; border: 1px solid #8886; border-radius: 6px; }}
circle {{ fill-opacity: .8; }} circle:hover {{ stroke: currentColor; stroke-width: 4; }}
#name {{ min-height: 1.4em; overflow-wrap: anywhere; }} ul {{ list-style: none; padding: 0; columns: 8rem; }}
i {{ display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .4em; }}
</style></head><body><h1>{title}</h1><p id="name" aria-live="polite">Point at a dot to see its file and class.</p>
<svg viewBox="0 0 {side} {side}" role="img" aria-label="{title}">{dots}</svg><ul>{legend}</ul>
<script>document.querySelector("svg").addEventListener("pointerover", (event) => {{
  if (event.target.tagName === "circle") document.getElementById("name").textContent = event.target.textContent;
}});</script></body></html>
"""


def class_colours(count: int) -> list[str]:
    """Colours as #rrggbb: matplotlib's 10 or 20 categorical ones, or for more classes the hues of the colour wheel."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if count > 20:
        return [to_hex(colormaps["hsv"](i / count)) for i in range(count)]
    return [to_hex(colormaps["tab10" if count <= 10 else "tab20"](i)) for i in range(count)]


def draw_map(path: Path, points: Points, labels: NDArray[np.int64], names: Sequence[str], title: str) -> None:
    """Writes points [S, 2] as a PNG, coloured by class [S]; -1 is grey."""
    figure = new_figure(8.0, 6.5)
    axes = figure.add_subplot()
    classes = [("class not known", UNKNOWN), *zip(names, class_colours(len(names)), strict=True)]
    for label, (name, colour) in enumerate(classes, start=-1):
        x, y = points[labels == label].T
        if len(x):
            # matplotlib hides names that begin with _ from the legend, and reads $ as mathematics.
            label_text = f"\u200b{printable(name)}".replace("$", r"\$")
            axes.scatter(x, y, s=14, color=colour, alpha=0.8, linewidths=0, label=label_text)
    axes.set(xticks=[], yticks=[])
    if names and len(names) <= MOST_IN_LEGEND:
        figure.legend(loc="outside right upper", fontsize=8, markerscale=1.5)
    axes.set_title(title, fontsize=10)
    with warnings.catch_warnings():  # the font lacks some letters; the page shows them
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        save_figure(figure, path)


def map_page(points: Points, labels: NDArray[np.int64], names: Sequence[str], files: Sequence[str], title: str) -> str:
    """The map as HTML whose dots show their file and class; the page loads nothing from the network."""
    low, high = points.min(0), points.max(0)
    scale = (SIDE - 2 * MARGIN) / max((high - low).max(), 1e-12)
    x, y = ((points - (low + high) / 2) * scale + SIDE / 2).T
    colours = class_colours(len(names))
    dots = []
    for i, label in enumerate(labels.tolist()):
        colour, text = (UNKNOWN, files[i]) if label < 0 else (colours[label], f"{files[i]}: {names[label]}")
        position = f'cx="{x[i]:.1f}" cy="{SIDE - y[i]:.1f}"'
        dots.append(f'<circle {position} r="6" fill="{colour}"><title>{_text(text)}</title></circle>')
    legend = [f'<li><i style="background:{c}"></i>{_text(n)}</li>' for n, c in zip(names, colours, strict=True)]
    return PAGE.format(title=_text(title), side=SIDE, dots="".join(dots), legend="".join(legend))


def _text(words: str) -> str:
    """Escapes text for HTML; bytes of file names that are not Unicode become ?."""
    return escape(words.encode("utf-8", "replace").decode())
