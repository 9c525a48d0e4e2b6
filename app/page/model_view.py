"""What the page says of a model: its card, its classes, and how its exports compare with their source."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from neuromoco.app.page.views import card, table
from neuromoco.app.worker.analysis import Model
from neuromoco.errors import NeuromocoError
from neuromoco.runtime.facts import facts_of


def model_view(model: Model) -> str:
    """Everything of a model that lies beside its files."""
    files = list(model.files.values())
    first, last = [card("Classes", _classes(model))], []
    places = [place for file in files for place in (file.with_suffix(".report.json"), file / "report.json")]
    for place in dict.fromkeys(places):  # a checkpoint and its export share a report
        if place.is_file() and (report := _read(place)):
            loihi = "dialect" in report
            rows = _loihi(report) if loihi else _onnx(report)
            first.append(card("Loihi export" if loihi else "ONNX export", table(rows)))
            last.append(card("Layers on Loihi" if loihi else "Layers in ONNX", _layers(report), kind="nm-wide"))
    about = next((path for path in (file.with_suffix(".md") for file in files) if path.is_file()), None)
    text = _markdown(about.read_text("utf-8")) if about else "<p>No card lies beside this model.</p>"
    prose = f'<section class="nm-card nm-wide nm-prose">{text}</section>'
    return f'<div class="nm-grid nm-models">{"".join([*first, prose, *last])}</div>'


def _classes(model: Model) -> str:
    try:
        facts = facts_of(next(iter(model.files.values())))
    except NeuromocoError as error:
        return f"<p>{escape(str(error))}</p>"
    chips = "".join(f"<li>{escape(name)}</li>" for name in facts["class_names"])
    frames, seen = facts["frames"], facts["trained_on"]
    rows = [
        ("Encoder", facts["encoder"]),
        ("Frames", f"{frames['steps']} steps by {frames['slice_by']}, {frames['width']} x {frames['height']}"),
    ]
    if isinstance(seen, Mapping) and seen.get("shortest_us"):
        rows.append(("Trained on", f"{seen['shortest_us'] / 1e3:.0f} to {seen['longest_us'] / 1e3:.0f} ms long"))
    return f'<ul class="nm-chips">{chips}</ul>{table(rows)}'


def _onnx(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    parity, compared = report["parity"], report["compared"]
    flips, total = (sum(layer[key] for layer in parity["layers"]) for key in ("flipped", "compared"))
    return [
        ("File", f"{report['bytes']:,} bytes, {report['nodes']} nodes, opset {report['opset']}"),
        ("Precision", report["precision"]),
        ("Compared on", f"{compared['recordings']} recordings, {compared['noise']} of noise"),
        ("Same answer", f"{parity['agreement']:.1%}"),
        ("Largest logit error", f"{parity['largest_error']:.2g}"),
        ("Spikes that differ", f"{flips:,} of {total:,}"),
        ("Verdict", parity["problem"] or "within what is allowed"),
    ]


def _loihi(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    total, accuracy = report["total"], report["accuracy"]
    rows = [
        ("Dialect", f"{report['dialect']}, {report['steps']} steps, latency {report['latency']}"),
        ("Compared on", f"{report['compared']['recordings']} recordings, calibrated on {report['calibrated_on']}"),
        ("Same answer as float32", f"{report['agreement']:.1%}"),
        ("Neurons", f"{total['neurons']:,}"),
        ("Weights of 8 bits", f"{total['weights']:,}"),
        ("Cores", f"{total['cores_loihi1']} on Loihi 1, {total['cores_loihi2']} on Loihi 2"),
        ("Synaptic operations", f"{total['operations']:,.0f} a recording"),
        ("Energy, estimated", f"{total['energy_nj'] / 1e3:.1f} uJ a recording; not run on a chip"),
        ("Verdict", report["problem"] or "within what is allowed"),
    ]
    if accuracy:
        rows.insert(3, ("Accuracy on those", f"{accuracy['float32']:.1%} float32, {accuracy['loihi']:.1%} Loihi"))
    return rows


def _layers(report: Mapping[str, Any]) -> str:
    if "dialect" in report:
        head = ["layer", "kind", "neurons", "weights", "rate", "float32", "differ", "cores"]
        keys = ["name", "kind", "neurons", "weights", "rate", "rate_float32", "differ", "cores_loihi1"]
        layers = report["layers"]
    else:
        head, keys = ["layer", "rate", "compared", "differ"], ["name", "rate", "compared", "flipped"]
        layers = report["parity"]["layers"]
    rows = [[_cell(layer.get(key)) for key in keys] for layer in layers]
    return _grid(head, rows)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return f'<div class="nm-scroll" tabindex="0"><table class="nm-layers"><tr>{top}</tr>{body}</table></div>'


def _markdown(text: str) -> str:
    """A card as HTML: long listings folded, raw HTML shown as text."""
    from markdown_it import MarkdownIt

    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    html = html.replace("<pre>", "<details><summary>Show</summary><pre>").replace("</pre>", "</pre></details>")
    html = html.replace("<table>", '<div class="nm-scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    for level in (3, 2, 1):  # the page has a heading of its own
        html = html.replace(f"<h{level}>", f"<h{level + 1}>").replace(f"</h{level}>", f"</h{level + 1}>")
    return html


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except ValueError:
        return None
