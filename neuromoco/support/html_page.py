"""Pages in one HTML file without outside resources: text is escaped, pictures are inside, nothing is fetched or run."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from html import escape as _escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.support.console import printable

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --page: #f6f7f9; --card: #fff;
  --on: #e06100; --off: #0059b3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b5; --line: #323b47; --page: #14181e;
  --card: #1c222b; --on: #ff9a4a; --off: #6db3ff; } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 1.2rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.4rem; margin: 0 0 .2rem } h2 { font-size: 1.05rem; margin: 0 0 .6rem }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; margin: 1rem 0 }
.wide { overflow-x: auto }
p { margin: .25rem 0 } .wide table { min-width: 22rem } td:nth-child(3) { min-width: 9rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
td.n, th.n { text-align: right }
.note { color: var(--soft); margin: .5rem 0 0 } .big { font-size: 1.5rem; font-weight: 600 }
.pictures { display: flex; flex-wrap: wrap; gap: .8rem } figure { margin: 0; width: 7.5rem }
figure img { width: 100%; image-rendering: pixelated; background: #fff; border: 1px solid var(--line); display: block }
.bar { display: grid; grid-template-columns: 8rem 1fr 12rem; gap: .6rem; align-items: center; margin: .2rem 0 }
.bar i { display: block; height: .7rem; border-radius: .2rem; background: var(--off) } .bar b { font-weight: 400 }
@media (max-width: 40rem) { .bar { grid-template-columns: 5rem 1fr 8rem; font-size: .8rem } }
.heat td { text-align: right; min-width: 2.2rem !important; padding: .2rem .4rem }
figcaption { font-size: .75rem; color: var(--soft) }
svg { max-width: 100%; height: auto; display: block } svg text { fill: var(--ink); font: 11px system-ui, sans-serif }
"""


def escape(text: object) -> str:
    """A text from outside, as it may stand in HTML."""
    return _escape(printable(str(text)))


def page(title: str, subtitle: str, sections: Iterable[str]) -> str:
    """A page of sections, which are HTML; title and subtitle are text."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{STYLE}</style></head><body>'
        f'<h1>{escape(title)}</h1><p class="note">{escape(subtitle)}</p>{"".join(sections)}</body></html>\n'
    )


def section(title: str, body: str, note: str = "") -> str:
    """A box with a heading. `body` is HTML, `title` and `note` are text."""
    under = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{body}{under}</section>"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of text; numbers are to the right."""

    def cell(value: Any, tag: str = "td") -> str:
        text = f"{value:,}" if isinstance(value, int) else str(value)
        number = ' class="n"' if re.fullmatch(r"[-\d.,]+%?", text) else ""
        return f"<{tag}{number}>{escape(text)}</{tag}>"

    top = f"<tr>{''.join(cell(name, 'th') for name in head)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f'<div class="wide"><table>{top}{body}</table></div>'


def paragraphs(lines: Iterable[str]) -> str:
    """Lines of text."""
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def bars(rows: Iterable[tuple[str, float, str]]) -> str:
    """Horizontal bars: name, share from 0 to 1, and a text beside it."""
    return "".join(
        f'<div class="bar"><b>{escape(name)}</b><i style="width: {100 * min(1.0, max(0.0, share)):.1f}%"></i>'
        f"<span>{escape(text)}</span></div>"
        for name, share, text in rows
    )


def heat_table(names: Sequence[str], counts: NDArray[np.int64]) -> str:
    """A square table of counts [rows, columns], darker where a row has more of its own."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    top = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = [
        f"<tr><th>{escape(name)}</th>"
        + "".join(
            f'<td style="background: rgb(0 89 179 / {0.75 * share:.2f})">{count or ""}</td>'
            for count, share in zip(line.tolist(), part.tolist(), strict=True)
        )
        + "</tr>"
        for name, line, part in zip(names, counts, shares, strict=True)
    ]
    return f'<div class="wide"><table class="heat"><tr><th></th>{top}</tr>{"".join(rows)}</table></div>'


def curve(shares: Sequence[float]) -> str:
    """A curve of shares from 0 to 1 over steps from 1."""
    width, height, edge = 520, 180, 34
    across = (width - 2 * edge) / max(1, len(shares) - 1)
    places = [(edge + across * i, edge + (height - 2 * edge) * (1 - share)) for i, share in enumerate(shares)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="var(--on)"/>'
        f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{share:.0%}</text>'
        f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{step}</text>'
        for step, ((x, y), share) in enumerate(zip(places, shares, strict=True), start=1)
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img">'
        f'<polyline points="{line}" fill="none" stroke="var(--on)" stroke-width="2"/>{dots}</svg>'
    )


def picture(colours: NDArray[np.float64], caption: str) -> str:
    """A picture of colours [H, W, 3] from 0 to 1, with a text below it."""
    data = base64.b64encode(png(colours)).decode()
    text = escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def pictures(figures: Iterable[str]) -> str:
    """Pictures side by side."""
    return f'<div class="pictures">{"".join(figures)}</div>'


def png(colours: NDArray[np.float64]) -> bytes:
    """A PNG file of colours [H, W, 3] from 0 to 1 (W3C, "Portable Network Graphics Specification")."""
    pixels = np.round(np.clip(colours, 0.0, 1.0) * 255).astype(np.uint8)
    height, width = pixels.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # 0: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    body = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)
