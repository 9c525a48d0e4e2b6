"""Pages in one HTML file without outside resources: text is escaped, pictures are inside, nothing is fetched or run."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape as _escape
from typing import Any, NamedTuple

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
h3 { font-size: .9rem; margin: 0 0 .4rem } p { margin: .25rem 0 } .wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: break-word }
th, td { padding: .25rem 1.2rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
td.n, th.n { text-align: right }
@media (max-width: 40rem) { table { font-size: .8rem } th, td { padding-right: .6rem } }
.note { color: var(--soft); margin: .5rem 0 0 } .big { font-size: 1.5rem; font-weight: 600 }
.pictures { display: flex; flex-wrap: wrap; gap: .8rem } figure { margin: 0; width: 7.5rem }
.groups { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 32.4rem), 1fr)); gap: 1.2rem }
figure img { width: 100%; image-rendering: pixelated; background: #fff; border: 1px solid var(--line); display: block }
.bars { display: grid; grid-template-columns: fit-content(30%) minmax(2rem, 1fr) max-content; gap: .2rem .8rem;
  align-items: center } .bars b { font-weight: 400 }
.bar { position: relative; height: .8rem; border-radius: .2rem; background: var(--page) }
.bar * { position: absolute; top: 0; height: 100%; border-radius: .2rem } .bar i { left: 0; background: var(--off) }
.bar u { top: 35%; height: 30%; background: var(--ink); min-width: 2px }
.bar s { width: 3px; margin-left: -1.5px; background: var(--on) }
@media (max-width: 40rem) { .bars { font-size: .8rem; gap: .4rem } }
.heat th, .heat td { text-align: right; min-width: 2.2rem; padding: .2rem .4rem }
figcaption { font-size: .75rem; color: var(--soft) }
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
    """A table of text; columns of numbers are to the right."""

    texts = [[f"{value:,}" if isinstance(value, int) else str(value) for value in row] for row in rows]
    numbers = [all(re.fullmatch(r"[-\d.,]+ ?%?", text) for text in column) for column in zip(*texts, strict=True)]

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = [' class="n"' if number else "" for number in numbers] or [""] * len(cells)
        inside = (f"<{tag}{kind}>{_breakable(text)}</{tag}>" for text, kind in zip(cells, kinds, strict=True))
        return f"<tr>{''.join(inside)}</tr>"

    top = line(head, "th") if head else ""
    return f'<div class="wide"><table>{top}{"".join(line(row, "td") for row in texts)}</table></div>'


def _breakable(text: str) -> str:
    """Text in which a long name of settings or files may go on in the next line."""
    return re.sub(r"(?<=[a-z])([._/])(?=[a-z])", r"\1<wbr>", escape(text))


def paragraphs(lines: Iterable[str]) -> str:
    """Lines of text."""
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


class Bar(NamedTuple):
    """A share from 0 to 1 as a bar, with its name before it and a text behind it."""

    name: str
    share: float
    text: str
    interval: tuple[float, float] | None = None  # is drawn as a line
    mark: float | None = None  # what the share is compared with


def bars(rows: Iterable[Bar]) -> str:
    """Horizontal bars."""
    return f'<div class="bars">{"".join(map(_bar, rows))}</div>'


def _bar(row: Bar) -> str:
    inside = f'<i style="width: {_percent(row.share)}"></i>'
    if row.interval is not None:
        low, high = row.interval
        inside += f'<u style="left: {_percent(low)}; width: {_percent(high - low)}"></u>'
    if row.mark is not None:
        inside += f'<s style="left: {_percent(row.mark)}"></s>'
    return f'<b>{escape(row.name)}</b><div class="bar">{inside}</div><span>{escape(row.text)}</span>'


def _percent(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.1f}%"


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


def picture(colours: NDArray[np.float64], caption: str) -> str:
    """A picture of colours [H, W, 3] from 0 to 1, with a text below it."""
    data = base64.b64encode(png(colours)).decode()
    text = escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def groups(named: Mapping[str, str]) -> str:
    """Parts of a section side by side, each HTML under its name."""
    parts = (f"<div><h3>{escape(name)}</h3>{body}</div>" for name, body in named.items())
    return f'<div class="groups">{"".join(parts)}</div>'


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
