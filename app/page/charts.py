"""Charts of the page, as inline SVG and HTML: small, sharp at any size, coloured by page.css for light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from neuromoco.app.worker.analysis import Analysis
from neuromoco.runtime.prediction import Prediction
from neuromoco.runtime.timeline import Segment

# About the width of a card, so that text in charts is about as large as elsewhere on the page.
WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 26
INNER_WIDTH, INNER_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
CURVES = 5
STRIP, LETTER = 44, 8
THIN, THINNEST = 4, 0.6  # parts without a border, and of known class as thin as can be seen


def bars(rows: Sequence[tuple[str, float, str]], full: float | None = None, mono: bool = False) -> str:
    """Horizontal bars of (name, value, value as text). `full` is the value of a full bar; by default the largest."""
    full = full or max((value for _, value, _ in rows), default=0.0) or 1.0
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="nm-bar"><i style="width:{100 * value / full:.1f}%"></i>'
        f"</td><td>{escape(text)}</td></tr>"
        for name, value, text in rows
    )
    return f'<table class="nm-bars{" nm-mono" if mono else ""}">{lines}</table>'


def evidence_chart(prediction: Prediction) -> str:
    """Probabilities of the likeliest classes after each step, and the step after which the label no longer changes."""
    names, values = list(prediction.probabilities), prediction.probabilities_per_step()
    steps = len(values)
    x = [_across(0.5 if steps == 1 else step / (steps - 1)) for step in range(steps)]
    parts = [_y_axis([(0.0, "0"), (0.5, "50 %"), (1.0, "100 %")]), _step_labels(x)]
    at = x[prediction.decision_step - 1]
    parts.append(f'<line class="nm-settled" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    for number in reversed(range(min(CURVES, len(names)))):
        kind = ("nm-first", "nm-second")[number] if number < 2 else "nm-rest"
        points = " ".join(f"{a:.1f},{_up(v):.1f}" for a, v in zip(x, values[:, number], strict=True))
        parts.append(f'<polyline class="{kind}" points="{points}"><title>{escape(names[number])}</title></polyline>')
        if number < 2:
            parts += [f'<circle class="{kind}" cx="{a:.1f}" cy="{_up(v):.1f}" r="3"/>'
                      for a, v in zip(x, values[:, number], strict=True)]  # fmt: skip
    legend = "".join(
        f'<li class="{kind}">{escape(name)}</li>' for name, kind in zip(names, ("nm-first", "nm-second"), strict=False)
    )
    more = '<li class="nm-rest">others</li>' if len(names) > 2 else ""
    label = f"Probability of {names[0]} by step: " + ", ".join(f"{share:.0%}" for share in values[:, 0])
    return _svg(parts, label) + f'<ul class="nm-legend">{legend}{more}<li class="nm-settled">decided</li></ul>'


def rate_chart(analysis: Analysis) -> str:
    """Events per second over the whole file, with the window shaded and a line that follows the slider."""
    rate = np.array(analysis.rate) / 1e3
    end = max(analysis.facts["duration_ms"] / 1e3, 1e-6)
    top = _round_up(float(rate.max(initial=0.0)) or 1.0)
    begin, stop = (min(us / 1e6 / end, 1.0) for us in analysis.window_us)
    parts = [_y_axis([(share, f"{top * share:g}") for share in (0.0, 0.5, 1.0)])]
    if analysis.windows > 1:
        parts.append(
            f'<rect class="nm-window" x="{_across(begin):.1f}" y="{TOP}" '
            f'width="{_across(stop) - _across(begin):.1f}" height="{INNER_HEIGHT}"/>'
        )
    edges = np.linspace(0.0, 1.0, len(rate) + 1)
    line = [f"{_across(a):.1f},{_up(v):.1f}" for i, v in enumerate(rate / top) for a in edges[i : i + 2]]
    parts.append(
        f'<polygon class="nm-area" points="{_across(0):.1f},{_up(0)} {" ".join(line)} {_across(1):.1f},{_up(0)}"/>'
    )
    unit, scale = ("s", 1.0) if end >= 2 else ("ms", 1e3)
    for share, where in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        parts.append(_text(_across(share), HEIGHT - 8, f"{end * share * scale:.3g} {unit}", where))
    parts.append(
        f'<line class="nm-playhead" data-from="{_across(begin):.1f}" data-to="{_across(stop):.1f}" '
        f'x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    )
    return _svg(parts, f"Event rate over {end:.3g} s, up to {rate.max(initial=0.0):,.0f} thousand per second")


def timeline_strip(segments: Sequence[Segment], end: int) -> str:
    """Segments of a recording of `end` us in a row, those of known class with their name where there is room."""
    parts = []
    for segment in segments:
        left, right = (_across(us / end) for us in (segment.begin_us, segment.end_us))
        kind = "nm-unknown"
        if segment.label is not None:
            kind, right = "nm-known nm-thin" if right - left < THIN else "nm-known", max(right, left + THINNEST)
        name = segment.label or segment.why or ""
        times = f"{segment.begin_us / 1e6:.3f} to {segment.end_us / 1e6:.3f} s: {name}"
        sure = "" if segment.confidence is None else f", {segment.confidence:.0%}"
        parts.append(
            f'<rect class="{kind}" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{STRIP}">'
            f"<title>{escape(times + sure)}</title></rect>"
        )
        if segment.label is not None and right - left > LETTER * len(segment.label):
            parts.append(_text((left + right) / 2, TOP + STRIP / 2 + 4, segment.label, "middle"))
    for share, where in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        parts.append(_text(_across(share), TOP + STRIP + 18, f"{end * share / 1e6:.3g} s", where))
    known = sum(segment.label is not None for segment in segments)
    return _svg(parts, f"{known} segments of known class in {end / 1e6:.3g} s", TOP + STRIP + BOTTOM)


def raster_chart(analysis: Analysis, steps: int) -> str:
    """Spikes by neuron (rows) and step (columns)."""
    wide, high = 1.0 / steps, 1.0 / max(analysis.raster_neurons, 1)
    marks = "".join(
        f"M{_across((step + 0.08) * wide):.1f} {_up(1 - (neuron + 0.5) * high):.1f}h{0.84 * wide * INNER_WIDTH:.1f}"
        for step, neuron in analysis.raster
    )
    stroke = max(0.8, 0.8 * high * INNER_HEIGHT)
    parts = [
        f'<path class="nm-raster" d="{marks}" stroke-width="{stroke:.2f}"/>',
        _step_labels([_across((step + 0.5) * wide) for step in range(steps)]),
        _text(LEFT - 6, TOP + 8, "1", "end"),
        _text(LEFT - 6, HEIGHT - BOTTOM, str(analysis.raster_neurons), "end"),
    ]
    return _svg(parts, f"{len(analysis.raster)} spikes of {analysis.raster_neurons} neurons in {steps} steps")


def _svg(parts: Sequence[str], label: str, height: int = HEIGHT) -> str:
    return (
        f'<svg class="nm-chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )


def _y_axis(marks: Sequence[tuple[float, str]]) -> str:
    return "".join(
        f'<line class="nm-grid-line" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_up(at):.1f}" y2="{_up(at):.1f}"/>'
        + _text(LEFT - 6, _up(at) + 4, text, "end")
        for at, text in marks
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _step_labels(places: Sequence[float]) -> str:
    every = 1 if len(places) <= 16 else len(places) // 8
    return "".join(_text(x, HEIGHT - 8, str(step + 1), "middle") for step, x in enumerate(places) if step % every == 0)


def _across(share: float) -> float:
    return LEFT + share * INNER_WIDTH


def _up(share: float) -> float:
    return TOP + (1 - share) * INNER_HEIGHT


def _round_up(value: float) -> float:
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step for step in (1, 2, 4, 6, 8, 10) if step * power >= value * 0.9999) * power)
