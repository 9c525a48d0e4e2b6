"""What the page shows of a model: its card, its classes, and how its exports compare with their source."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from neuromoco.app.page.views import card, table
from neuromoco.app.worker.analysis import ModelFiles
from neuromoco.errors import NeuromocoError
from neuromoco.runtime.facts import facts_of
from neuromoco.support.files import LARGEST_JSON
from neuromoco.support.untrusted import parse_json, read_bytes


def model_view(model: ModelFiles) -> str:
    """The card and the reports next to a model's files, as HTML."""
    files = list(model.files.values())
    first, last = [card("Classes", _classes(model))], []
    places = [place for file in files for place in (file.with_suffix(".report.json"), file / "report.json")]
    for place in dict.fromkeys(places):  # a checkpoint and its export share a report
        if place.is_file() and (report := _read(place)):
            name, where, rows = ("Loihi", "on", _loihi) if "dialect" in report else ("ONNX", "in", _onnx)
            first.append(card(f"{name} export", table(rows(report))))
            last.append(card(f"Layers {where} {name}", _layers(report), kind="nm-wide"))
    about = next((path for path in (file.with_suffix(".md") for file in files) if path.is_file()), None)
    text = _markdown(about.read_text("utf-8")) if about else "<p>This model has no card.</p>"
    prose = f'<section class="nm-card nm-wide nm-prose">{text}</section>'
    return f'<div class="nm-grid nm-models">{"".join([*first, prose, *last])}</div>'


def _classes(model: ModelFiles) -> str:
    try:
        facts = facts_of(model.files[model.default_backend])
    except NeuromocoError as error:
        return f"<p>{escape(str(error))}</p>"
    chips = "".join(f"<li>{escape(name)}</li>" for name in facts["class_names"])
    frames, seen = facts["frames"], facts["trained_on"]
    rows = [
        ("Encoder", facts["encoder"]),
        ("Frames", f"{frames['steps']} steps by {frames['slice_by']}, {frames['width']} x {frames['height']}"),
    ]
    if seen["shortest_us"]:
        rows.append(("Trained on", f"{seen['shortest_us'] / 1e3:.0f} to {seen['longest_us'] / 1e3:.0f} ms long"))
    return f'<ul class="nm-chips">{chips}</ul>{table(rows)}'


def _onnx(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    parity, compared = report["parity"], report["compared"]
    flips, total = (sum(layer[key] for layer in parity["layers"]) for key in ("flipped", "compared"))
    return [
        ("File", f"{report['bytes']:,} bytes, {report['nodes']} nodes, opset {report['opset']}"),
        ("Precision", report["precision"]),
        ("Compared on", f"{compared['recordings']} recordings, {compared['noise']} of noise"),
        ("Same label", f"{parity['agreement']:.1%}"),
        ("Largest logit error", f"{parity['largest_error']:.2g}"),
        ("Spikes that differ", f"{flips:,} of {total:,}"),
        ("Verdict", parity["problem"] or "within the limits"),
    ]


def _loihi(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    total, accuracy = report["total"], report["accuracy"]
    rows = [
        ("Dialect", f"{report['dialect']}, {report['steps']} steps, latency {report['latency']}"),
        ("Compared on", f"{report['compared']['recordings']} recordings, calibrated on {report['calibrated_on']}"),
        ("Same label as float32", f"{report['agreement']:.1%}"),
        ("Neurons", f"{total['neurons']:,}"),
        ("Weights of 8 bits", f"{total['weights']:,}"),
        ("Cores", f"{total['cores_loihi1']} on Loihi 1, {total['cores_loihi2']} on Loihi 2"),
        ("Synaptic operations", f"{total['operations']:,.0f} per recording"),
        ("Energy, estimated", f"{total['energy_nj'] / 1e3:.1f} uJ per recording; not measured on a chip"),
        ("Verdict", report["problem"] or "within the limits"),
    ]
    if accuracy:
        rows.insert(3, ("Accuracy on these", f"{accuracy['float32']:.1%} float32, {accuracy['loihi']:.1%} Loihi"))
    return rows


ONNX_COLUMNS = {"layer": "name", "rate": "rate", "compared": "compared", "differ": "flipped"}
LOIHI_COLUMNS = {
    "layer": "name", "kind": "kind", "neurons": "neurons", "weights": "weights", "rate": "rate",
    "float32": "rate_float32", "differ": "differ", "cores": "cores_loihi1",
}  # fmt: skip


def _layers(report: Mapping[str, Any]) -> str:
    columns, layers = (
        (LOIHI_COLUMNS, report["layers"]) if "dialect" in report else (ONNX_COLUMNS, report["parity"]["layers"])
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = ""
    for layer in layers:
        name, *cells = (_cell(layer.get(key)) for key in columns.values())
        body += f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    return f'<div class="nm-scroll" tabindex="0"><table class="nm-layers"><tr>{head}</tr>{body}</table></div>'


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else escape(str(value))


def _markdown(text: str) -> str:
    """A card as HTML: listings collapsed, raw HTML shown as text."""
    from markdown_it import MarkdownIt

    html: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    html = html.replace("<pre>", "<details><summary>Show</summary><pre>").replace("</pre>", "</pre></details>")
    html = html.replace("<table>", '<div class="nm-scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    for level in (3, 2, 1):  # the page has a top heading already
        html = html.replace(f"<h{level}>", f"<h{level + 1}>").replace(f"</h{level}>", f"</h{level + 1}>")
    return html


def _read(file: Path) -> Any:
    try:
        return parse_json(read_bytes(file, LARGEST_JSON))
    except ValueError:
        return None
