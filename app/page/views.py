"""What the page says of a file, as HTML. Everything that comes from a file, its name or a message is escaped."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.app.page.charts import bars, evidence_chart, raster_chart, rate_chart
from neuromoco.app.worker.analysis import Analysis, Request
from neuromoco.support.figures import brightness

READS = "neuromoco reads AEDAT, RAW, DAT, .bin, .es, HDF5, npz, csv."
SHEET_COLUMNS = 8
TOP = 5
HEADER = """<header class="nm-header"><svg viewBox="0 0 40 24" aria-hidden="true">
<path d="M1 18h9l3-6 4 6h3l4-16 4 16h11" fill="none" stroke="currentColor" stroke-width="2.6" stroke-linejoin="round"
stroke-linecap="round"/></svg><h1>neuromoco</h1><p>Drop an event file, see what the network sees.</p></header>"""


def card(title: str, body: str, note: str = "", kind: str = "") -> str:
    """A box with a heading. `body` is HTML, the rest is text."""
    under = f'<p class="nm-note">{escape(note)}</p>' if note else ""
    return f'<section class="nm-card {kind}"><h2>{escape(title)}</h2>{body}{under}</section>'


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values, both text."""
    cells = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<table class="nm-table">{cells}</table>'


def empty_view() -> str:
    """Before there is a file."""
    return (
        '<div class="nm-empty"><h2>Nothing here yet</h2><p>Drop a recording of an event camera on the left, or pick a '
        "bundled one. You will see its events, the answer, and how the answer came about, step by step.</p>"
        f"<p>{READS} Which of them a file is, its content says, not its name.</p>"
        "<p>A file is read on this computer and deleted once it is answered; those longer than a second are kept for "
        "ten minutes at most, so that you can go through them window by window.</p></div>"
    )


def error_view(name: str, message: str) -> str:
    """A file that cannot be answered, in words for whoever dropped it."""
    title, more = explain(name, message)
    return (
        f'<div class="nm-empty nm-error" role="alert"><h2>{escape(title)}</h2><p>{escape(more)}</p>'
        f'<p class="nm-file">{escape(name)}</p></div>'
    )


def explain(name: str, message: str) -> tuple[str, str]:
    """A heading and a sentence for an error in one line that begins with the file."""
    text = message.removeprefix(f"{name}: ")
    if "(0 bytes)" in text:
        return "This file is empty (0 bytes).", "Nothing was recorded, or a copy broke off before it began."
    if found := re.match(r"is (an? .+?); (?:neuromoco|it) reads", text):
        return f"This is {found[1]}.", READS
    if "that neuromoco knows" in text:
        return "This is no event recording that neuromoco knows.", READS
    if text.startswith("no events from"):
        return "Nothing happens in this window.", f"There are {text}. Choose another window."
    if text == message:
        return "This did not work.", text[:1].upper() + text[1:]
    return "This recording cannot be read.", f"The file {text}" if text[:1].islower() else text


def result_view(request: Request, analysis: Analysis, backend_names: Mapping[str, str]) -> str:
    """All that is known of a file that was answered."""
    prediction = analysis.predictions[analysis.backend]
    steps = len(prediction.logits_per_step)
    settled = f"The answer settles at step {prediction.decision_step} of {steps}."
    cards = [
        card("Answer", _verdict(request, analysis, backend_names), kind="nm-answer"),
        card("Events", player(analysis), kind="nm-events"),
        card("Evidence by time step", evidence_chart(prediction), settled + " Each step adds its logits to the mean."),
        card("Event rate", rate_chart(analysis), "Thousand events a second of the whole file; the line is the slider."),
    ]
    if analysis.spike_rates:
        rates = [(name, rate, f"{rate:.3f}") for name, rate in analysis.spike_rates.items()]
        cards.append(card("Spike rate by layer", bars(rates, mono=True), "Spikes a neuron and step, in fixed point."))
        note = f"{analysis.raster_neurons} busiest neurons, a row each; a mark is a spike. Fixed point."
        cards.append(card("Spikes of the last layer", raster_chart(analysis, steps), note))
    cards.append(card("The file", table(_facts(analysis.facts))))
    times = [(stage, ms, f"{ms:.1f} ms") for stage, ms in analysis.milliseconds.items()]
    total = sum(analysis.milliseconds.values())
    cards.append(card("Time", bars(times), f"{total:.0f} ms in all, without the upload."))
    cards.append(card("Take it with you", _take_away(request, analysis)))
    return f'<div class="nm-grid">{"".join(cards)}</div>'


def _verdict(request: Request, analysis: Analysis, backend_names: Mapping[str, str]) -> str:
    prediction = analysis.predictions[analysis.backend]
    first = list(prediction.probabilities.items())[:TOP]
    begin, end = (us / 1e3 for us in analysis.window_us)
    where = (
        f"{begin:,.0f} to {end:,.0f} ms, window {request.window} of {analysis.windows}: " if request.window_us else ""
    )
    others = {backend_names.get(name, name): p.label for name, p in analysis.predictions.items()}
    if analysis.agreement is None:
        said = f"Only {' and '.join(others)} answers here."
    elif analysis.agreement:
        said = f"{', '.join(others)}: all agree."
    else:
        said = "Not all agree. " + ", ".join(f"{name}: {label}" for name, label in others.items()) + "."
    mark = {None: "", True: "nm-agree", False: "nm-disagree"}[analysis.agreement]
    return (
        f'<p class="nm-file">{escape(where + request.name)}</p>'
        f'<p class="nm-label">{escape(prediction.label)} <span>{first[0][1]:.1%}</span></p>'
        + bars([(name, share, f"{share:.1%}") for name, share in first], full=1.0)
        + f'<p class="nm-note {mark}">{escape(said)}</p>'
    )


def player(analysis: Analysis) -> str:
    """The animation: all frames in one picture, which page.js colours and plays; nothing is asked of the server."""
    frames = analysis.animation
    steps, _, height, width = frames.shape
    begin, end = analysis.window_us
    length = min(end, round(analysis.facts["duration_ms"] * 1e3) + 1) - begin  # the last window may be shorter
    busiest = int(frames.sum((1, 2, 3)).argmax())
    counts = json.dumps(frames.sum((1, 2, 3), dtype=np.int64).tolist(), separators=(",", ":"))
    return (
        f'<div class="nm-player" data-width="{width}" data-height="{height}" data-columns="{SHEET_COLUMNS}" '
        f'data-begin="{begin}" data-length="{length}" data-counts="{counts}">'
        f'<canvas width="{width}" height="{height}" role="img" aria-label="Events by pixel: orange ON, blue OFF">'
        f'</canvas><img hidden alt="" src="data:image/png;base64,{sprite_sheet(frames)}">'
        '<div class="nm-controls"><button type="button" aria-label="Play">'
        '<svg viewBox="0 0 16 16" aria-hidden="true"><path class="nm-play" d="M4 2l10 6-10 6z"/>'
        '<path class="nm-pause" d="M3 2h4v12H3zM9 2h4v12H9z"/></svg></button>'
        f'<input type="range" min="0" max="{steps - 1}" value="{busiest}" aria-label="Time"></div>'
        '<p class="nm-note"><span class="nm-on">ON</span> <span class="nm-off">OFF</span> '
        '<output aria-live="off"></output></p></div>'
    )


def sprite_sheet(frames: NDArray[np.uint16]) -> str:
    """Frames [A, P, h, w] side by side in a PNG, base64: red says how many ON events, green how many OFF."""
    from PIL import Image

    steps, _, height, width = frames.shape
    rows = -(-steps // SHEET_COLUMNS)
    cells = np.zeros((rows * SHEET_COLUMNS, height, width, 3), np.uint8)
    cells[:steps, ..., :2] = (brightness(frames) * 255).astype(np.uint8)[:, ::-1].transpose(0, 2, 3, 1)
    cells = cells.reshape(rows, SHEET_COLUMNS, height, width, 3).transpose(0, 2, 1, 3, 4)
    file = io.BytesIO()
    Image.fromarray(cells.reshape(rows * height, SHEET_COLUMNS * width, 3)).save(file, "PNG", optimize=False)
    return base64.b64encode(file.getvalue()).decode()


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rate = facts["rate_events_per_s"]
    rows = [
        ("Format", str(facts["format"])),
        ("Sensor", f"{facts['sensor']} pixels"),
        ("Events", f"{facts['events']:,}"),
        ("Lasts", f"{facts['duration_ms']:,.1f} ms"),
        ("Rate", "" if rate is None else f"{rate:,.0f} events/s"),
        ("ON", f"{facts['on_share']:.1%}"),
        ("Out of order", f"{facts['unsorted']:,}"),
        ("Outside the sensor", f"{facts['outside_sensor']:,}"),
        ("Twice", f"{facts['duplicates']:,}"),
    ]
    return [row for row in rows if row[1]]


def _take_away(request: Request, analysis: Analysis) -> str:
    """Command and JSON; both are in the page, so nothing is left on the server."""
    data = base64.b64encode(json.dumps(analysis.to_json(), indent=2).encode()).decode()
    name = escape(f"{PurePath(request.name).stem}.json", quote=True)
    return (
        "<p>The same answer from the command line:</p>"
        f'<div class="nm-command"><code tabindex="0">{escape(analysis.command)}</code></div>'
        '<div class="nm-take"><button type="button" class="nm-copy" aria-live="polite">Copy</button>'
        f'<a class="nm-download" download="{name}" href="data:application/json;base64,{data}">Download as JSON</a>'
        "</div>"
    )
