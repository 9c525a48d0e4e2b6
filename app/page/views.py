"""What the page shows of a file, as HTML. All text from a file, its name or a message is escaped."""

from __future__ import annotations

import base64
import heapq
import io
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.app.page.charts import bars, evidence_chart, raster_chart, rate_chart, timeline_strip
from neuromoco.app.worker.analysis import Analysis, AnalysisRequest
from neuromoco.app.worker.reading import FIELDS, fields_in, with_names
from neuromoco.runtime.timeline import Timeline
from neuromoco.support.figures import brightness

READS = "neuromoco reads AEDAT, RAW, DAT, .bin, .es, HDF5, npz, csv."
VERBS = ("is", "holds", "has", "does", "ends", "took", "cannot", "needs")  # with which messages about a file begin
SHEET_COLUMNS = 8
TOP = 5
TIMELINE_NOTE = "Whole file. Grey: pauses, or unknown."
MOST_SEGMENTS = 1_000  # that are drawn and listed; a strip has fewer pixels
RATE_NOTE = "Thousand events per second, whole file; the line follows the slider."
READING = "Reading"  # the section of fields that say how a file is read
LABELS = {name: name.replace("_", " ").capitalize() for name in FIELDS}
BACKEND_NAMES = {"onnx": "ONNX Runtime", "loihi-sim": "Loihi fixed point", "torch": "PyTorch"}
HEADER = """<header class="nm-header"><svg viewBox="0 0 40 24" aria-hidden="true">
<path d="M1 18h9l3-6 4 6h3l4-16 4 16h11" fill="none" stroke="currentColor" stroke-width="2.6" stroke-linejoin="round"
stroke-linecap="round"/></svg><h1>neuromoco</h1><p>Drop an event file and see what the network sees.</p></header>"""


def card(title: str, body: str, note: str = "", kind: str = "") -> str:
    """A box with a heading. `body` is HTML, `title` and `note` are text."""
    under = f'<p class="nm-note">{escape(note)}</p>' if note else ""
    return f'<section class="nm-card {kind}"><h2>{escape(title)}</h2>{body}{under}</section>'


def table(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values, both text."""
    cells = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<table class="nm-table">{cells}</table>'


def empty_view() -> str:
    """What the page shows before there is a file."""
    return (
        '<div class="nm-empty"><h2>Nothing here yet</h2><p>Drop a recording of an event camera on the left, or pick a '
        "bundled one. You will see its events, the predicted class, and how the prediction forms step by step.</p>"
        f"<p>{READS} It recognises the format by the content, not by the name.</p>"
        "<p>Your file is read on this computer and deleted after it is classified. Recordings longer than a second are "
        "kept for at most ten minutes, so that you can go through them window by window.</p></div>"
    )


def error_view(name: str, message: str) -> str:
    """An error about a file, in words for the visitor."""
    title, more = explain(name, with_names(message, LABELS, ": "))
    return (
        f'<div class="nm-empty nm-error" role="alert"><h2>{escape(title)}</h2><p>{escape(more)}</p>{_ask(message)}'
        f'<p class="nm-file">{escape(name)}</p></div>'
    )


def _ask(message: str) -> str:
    """What to fill in, if a message asks for an option."""
    fields = [LABELS[name] for name in fields_in(message)]
    if not fields:
        return ""
    if " with the format " in message:  # the option is one that the file's reader does not take
        return f"<p>Leave {fields[0]} empty in the section {READING}, and drop the file again.</p>"
    return f"<p>Set {' and '.join(fields)} in the section {READING}, and drop the file again.</p>"


def explain(name: str, message: str) -> tuple[str, str]:
    """A heading and a sentence for a one-line error that begins with the file name."""
    text = message.removeprefix(f"{name}: ")
    if "(0 bytes)" in text:
        return "This file is empty (0 bytes).", "Nothing was recorded, or a copy was interrupted at once."
    if match := re.match(r"is (an? .+?); (?:neuromoco|it) reads", text):
        return f"This is {match[1]}.", READS
    if "that neuromoco knows" in text:
        return "This is not an event recording that neuromoco knows.", READS
    if text.startswith("no events from"):
        return "This window has no events.", f"There are {text}. Choose another window."
    if text == message:
        return "This did not work.", text[:1].upper() + text[1:]
    begin = "The file " if text.partition(" ")[0] in VERBS else ""
    return "This recording cannot be read.", begin + (text if begin else text[:1].upper() + text[1:])


def result_view(request: AnalysisRequest, analysis: Analysis) -> str:
    """What the page shows of a classified file."""
    prediction = analysis.predictions[analysis.backend]
    steps = len(prediction.logits_per_step)
    settled = f"The label no longer changes after step {prediction.decision_step} of {steps}."
    cards = [
        card("Prediction", _verdict(request, analysis), kind="nm-answer"),
        card("Events", player(analysis), kind="nm-events"),
        card("Evidence by time step", evidence_chart(prediction), settled + " Each step adds its logits to the mean."),
        card("Event rate", rate_chart(analysis), RATE_NOTE),
    ]
    if analysis.timeline is not None:
        cards.append(timeline_card(analysis.timeline))
    if analysis.spike_rates:
        rates = [(name, rate, f"{rate:.3f}") for name, rate in analysis.spike_rates.items()]
        cards.append(card("Spike rate by layer", bars(rates, mono=True), "Spikes per neuron and step, in fixed point."))
        note = f"The {analysis.raster_neurons} busiest neurons, one per row; each mark is a spike. Fixed point."
        cards.append(card("Spikes of the last layer", raster_chart(analysis, steps), note))
    cards.append(card("The file", table(_facts(analysis.facts))))
    times = [(stage, ms, f"{ms:.1f} ms") for stage, ms in analysis.milliseconds.items()]
    total = sum(analysis.milliseconds.values())
    cards.append(card("Time", bars(times), f"{total:.0f} ms in total, without the upload."))
    cards.append(card("Use it elsewhere", _take_away(request, analysis)))
    return f'<div class="nm-grid">{"".join(cards)}</div>'


def timeline_card(timeline: Timeline) -> str:
    """The segments of a recording, drawn, and listed without the pauses; of too many, the longest."""
    longest = heapq.nlargest(MOST_SEGMENTS, timeline.segments, key=lambda one: one.end_us - one.begin_us)
    segments = sorted(longest, key=lambda one: one.begin_us)
    left_out = len(timeline.segments) - len(segments)
    only = (
        f" Only the {len(segments):,} longest of {len(timeline.segments):,} parts are shown; the command line has all."
    )
    rows = [
        (
            f"{one.begin_us / 1e6:,.3f} to {one.end_us / 1e6:,.3f} s",
            (f"unknown, {one.why}" if one.label is None else one.label)
            + ("" if one.confidence is None else f", {one.confidence:.0%}"),
        )
        for one in segments
        if one.label is not None or one.why != "pause"
    ]
    listed = f'<div class="nm-list" tabindex="0" role="region" aria-label="Parts">{table(rows)}</div>' if rows else ""
    body = timeline_strip(segments, timeline.duration_us) + listed
    return card("What shows when", body, TIMELINE_NOTE + (only if left_out else ""))


def _verdict(request: AnalysisRequest, analysis: Analysis) -> str:
    prediction = analysis.predictions[analysis.backend]
    first = list(prediction.probabilities.items())[:TOP]
    unlike = "" if prediction.fit is None or prediction.fit.fits else "nm-unlike"
    begin, end = (us / 1e3 for us in analysis.window_us)
    window = f"{begin:,.0f} to {end:,.0f} ms, window {request.window} of {analysis.windows}: "
    where = window if request.window_us else ""
    labels = {BACKEND_NAMES[name]: other.label for name, other in analysis.predictions.items()}
    if analysis.agreement is None:
        mark, note = "", f"Only {''.join(labels)} has classified it."
    elif analysis.agreement:
        mark, note = "" if unlike else "nm-agree", f"{', '.join(labels)}: all agree."
    else:
        mark, note = "nm-disagree", f"Not all agree. {', '.join(f'{name}: {label}' for name, label in labels.items())}."
    label, share = (prediction.label, f"{first[0][1]:.1%}")
    if prediction.unsure:
        possible = ", ".join(prediction.possible_classes or ())
        label, share = "unsure", f"{label} {share}; possible: {possible}"
    return (
        f'<p class="nm-file">{escape(where + request.name)}</p>'
        f'<p class="nm-label {unlike or ("nm-unsure" if prediction.unsure else "")}">{escape(label)} '
        f"<span>{escape(share)}</span></p>"
        + (f'<p class="nm-note nm-disagree">{escape(f"This recording is {prediction.fit}.")}</p>' if unlike else "")
        + bars([(name, share, f"{share:.1%}") for name, share in first], full=1.0)
        + f'<p class="nm-note {mark}">{escape(note)}</p>'
    )


def player(analysis: Analysis) -> str:
    """The animation: all frames in one picture, which page.js colours and plays without asking the server."""
    frames = analysis.animation
    assert frames is not None
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
    """Frames [A, P, h, w] side by side in a PNG, base64: red counts ON events, green counts OFF events."""
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
        ("Duration", f"{facts['duration_ms']:,.1f} ms"),
        ("Rate", "" if rate is None else f"{rate:,.0f} events/s"),
        ("ON", f"{facts['on_share']:.1%}"),
        ("Out of order", f"{facts['unsorted']:,}"),
        ("Outside the sensor", f"{facts['outside_sensor']:,}"),
        ("Duplicates", f"{facts['duplicates']:,}"),
    ]
    return [row for row in rows if row[1]]


def _take_away(request: AnalysisRequest, analysis: Analysis) -> str:
    """Command and JSON; both are in the page, so the server keeps nothing."""
    data = base64.b64encode(json.dumps(analysis.to_json(), indent=2).encode()).decode()
    name = escape(f"{PurePath(request.name).stem}.json", quote=True)
    return (
        "<p>The same prediction from the command line:</p>"
        f'<div class="nm-command"><code tabindex="0">{escape(analysis.command)}</code></div>'
        '<div class="nm-take"><button type="button" class="nm-copy" aria-live="polite">Copy</button>'
        f'<a class="nm-download" download="{name}" href="data:application/json;base64,{data}">Download as JSON</a>'
        "</div>"
    )
