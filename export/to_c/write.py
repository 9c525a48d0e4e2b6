"""A folder of C: the network as data, the runtime, a program, and an example with the answer that it must give."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from neuromoco.events import Recording
from neuromoco.frames import recording_frames
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.loihi.blocks import LoihiGraph
from neuromoco.runtime.loihi.twin import run
from neuromoco.runtime.spiking import SOURCES
from neuromoco.runtime.spiking.network import PackedNetwork
from neuromoco.support.files import write_text

TEMPLATE = Path(__file__).parent / "template"
HEADER, NETWORK, REPORT, README = "network.h", "network.c", "report.json", "README.md"
EXAMPLE, ANSWER = "example.csv", "example.txt"
TEMPLATES = ("main.c", "atis.h", "board.c", "board.ld", "Makefile", "CMakeLists.txt")
BUILT = ("classify", "board-m4.elf", "board-m7.elf")  # by the Makefile
OURS = frozenset({HEADER, NETWORK, REPORT, README, EXAMPLE, ANSWER, *TEMPLATES, *BUILT, *(s.name for s in SOURCES)})
SENSOR = "@SENSOR@"  # of the example, in the Makefile
MOST_EVENTS = 50_000  # of the example
LINE = 118


def write_sources(folder: Path, packed: PackedNetwork, graph: LoihiGraph, header: ExportHeader) -> None:
    """Fills an empty folder with everything but the example, the README and the report."""
    write_text(folder / HEADER, _header(packed, graph, header))
    write_text(folder / NETWORK, "\n".join(_network(packed, header)))
    for source in (*SOURCES, *(TEMPLATE / name for name in TEMPLATES)):
        shutil.copyfile(source, folder / source.name)  # contents alone: an installed package may be read-only


def write_example(folder: Path, recording: Recording, graph: LoihiGraph, header: ExportHeader) -> None:
    """A recording as text, and what `classify` must print for it, by the twin."""
    columns = {name: getattr(recording, name)[:MOST_EVENTS] for name in ("t", "x", "y", "p")}
    recording = replace(recording, **columns)
    sums = np.cumsum(run(graph, recording_frames(recording, header.frames)[:, None]).logits[:, 0], axis=0)
    lines = [f"step {step}: {' '.join(map(str, row))}" for step, row in enumerate(sums.tolist(), 1)]
    write_text(folder / ANSWER, "\n".join([*lines, header.class_names[sums[-1].argmax()], ""]))
    rows = np.stack([recording.t, recording.x, recording.y, recording.p], axis=1).tolist()
    write_text(folder / EXAMPLE, "t,x,y,p\n" + "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in rows))
    makefile = folder / "Makefile"
    sensor = f"{recording.width} {recording.height}"
    write_text(makefile, makefile.read_text(encoding="utf-8").replace(SENSOR, sensor))


def _header(packed: PackedNetwork, graph: LoihiGraph, header: ExportHeader) -> str:
    values = {
        "@CLASSES@": len(header.class_names),
        "@STEPS@": header.frames.steps,
        "@MEMORY@": packed.memory,
        "@FLASH@": len(packed.content),
        "@SCALE@": repr(float(graph.readout.scale)),
        "@SLICES@": "equally many events" if header.frames.slice_by == "count" else "equal durations",
    }
    text = (TEMPLATE / "network.h.in").read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(name, str(value))
    return text


def _network(packed: PackedNetwork, header: ExportHeader) -> Iterator[str]:
    begin, end = (TEMPLATE / "network.c.in").read_text(encoding="utf-8").split("@CONTENT@\n")
    yield begin.replace("@SOURCE@", _comment(header.source)).replace("@SHA256@", header.source_sha256).rstrip("\n")
    for section in packed.sections:
        yield f"    /* {_comment(section.name)} */"
        numbers = ",".join(map(str, section.content)) + ","
        yield from textwrap.wrap(numbers.replace(",", ", "), LINE, initial_indent="    ", subsequent_indent="    ")
    names = ",\n".join(f"    {_literal(name)}" for name in header.class_names)
    yield end.replace("@NAMES@", names)


def _comment(text: str) -> str:
    """A text within a comment."""
    return (
        "".join(c if c.isascii() and c.isprintable() else "?" for c in text).replace("*/", "* /").replace("/*", "/ *")
    )


def _literal(text: str) -> str:
    """A text as a C string, in UTF-8; octal escapes end after three digits, and \\? is no trigraph."""
    plain = {"?": "\\?", '"': '\\"', "\\": "\\\\"}
    return (
        '"'
        + "".join(
            plain.get(chr(byte), chr(byte)) if 32 <= byte < 127 else f"\\{byte:03o}"
            for byte in text.encode("utf-8", "replace")
        )
        + '"'
    )
