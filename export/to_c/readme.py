"""The README of a folder of C: how it is built and used, what it needs, how it compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from neuromoco.export.to_c.boards import BOARDS, fits
from neuromoco.export.to_loihi.report import judged_on
from neuromoco.runtime.header import ExportHeader
from neuromoco.support.console import printable

# Instructions of a Cortex-M4 or M7 in QEMU: for each synaptic operation, for each neuron and step. Attention counts
# pairs of spikes instead, which takes few.
PER_OPERATION, PER_NEURON = 5.0, 20.0


def instructions(report: Mapping[str, Any]) -> float:
    """About how many instructions of a Cortex-M a recording takes."""
    operations = sum(layer["operations"] for layer in report["layers"] if layer["kind"] != "ssa")
    return float(PER_OPERATION * operations + PER_NEURON * report["total"]["neurons"] * report["steps"])


def as_text(report: Mapping[str, Any], header: ExportHeader) -> str:
    """The README, from the report of an export and the header of its source."""
    return "\n".join([*_use(report, header), *_needs(report), *_boards(report), *_compared(report), ""])


def _use(report: Mapping[str, Any], header: ExportHeader) -> Iterator[str]:
    frames = header.frames
    slices = "equally many events" if frames.slice_by == "count" else "equal durations"
    crop = (
        ""
        if frames.crop is None
        else f" Of the sensor, columns, rows {frames.crop} (left, top, width, height) are used."
    )
    yield from (
        printable(f"# {report['file']}: {report['encoder']} in C99"),
        "",
        f"From {printable(report['source'])} (SHA-256 {report['source_sha256'][:16]}). Integers only, no allocation,",
        "and of the C library memset alone. `main.c` and `board.c` are programs around it.",
        "",
        "```sh",
        "make                           # classify, for this computer",
        "make check                     # example.csv must give example.txt",
        "./classify < recording.bin     # ATIS .bin, or text: t,x,y,p a line, t in microseconds",
        "make board-m4.elf              # for a Cortex-M4, with arm-none-eabi-gcc; m7, too",
        "make qemu-m4 RECORDINGS='recording.bin'   # there, in qemu-system-arm: logits and instructions",
        "```",
        "",
        "Other formats: `neuromoco convert recording.raw recording.csv`. In a program of your own:",
        "",
        "```c",
        '#include "network.h"',
        "nm_reset();",
        "nm_survey(t, x, y, p, n);          /* all events of a recording, also in several calls */",
        "for (i = 0, step = 0; step < NM_STEPS; step++) {",
        "    i += nm_push_events(t + i, x + i, y + i, p + i, n - i);",
        "    if (nm_step() != SPIKING_OK) break; /* nm_answer() already answers, by the steps so far */",
        "}",
        "puts(nm_class_names[nm_answer()]);",
        "```",
        "",
        f"A recording becomes {frames.steps} steps of {slices}, {frames.height} x {frames.width} pixels.{crop} Without",
        "`nm_survey`, steps end where `nm_step` is called; `spiking.h` says more. Compile `network.c` and `spiking.c`.",
        "",
    )


def _needs(report: Mapping[str, Any]) -> Iterator[str]:
    memory, total, compiled = report["bytes"], report["total"], report["compiled"]
    yield from (
        "## What it needs",
        "",
        "| | |",
        "|---|---|",
        f"| RAM | {memory['ram']:,} bytes, all reserved when compiled, and 1 KB of stack |",
        f"| flash | {memory['flash']:,} bytes: {memory['network']:,} of network, the rest code |",
        f"| neurons, weights | {total['neurons']:,}, {total['weights']:,} |",
        f"| synaptic operations | {total['operations']:,.0f} a recording, on those compared: they follow the spikes |",
        f"| instructions of a Cortex-M | about {instructions(report) / 1e6:,.1f} million a recording |",
    )
    if compiled:
        yield f"| time | {compiled['milliseconds']:.2f} ms a recording on the computer that wrote this |"
    yield ""


def _boards(report: Mapping[str, Any]) -> Iterator[str]:
    yield from ("| board | flash | RAM | fits | about |", "|---|---|---|---|---|")
    for board in BOARDS:
        fit = fits(board, report["bytes"]["ram"], report["bytes"]["flash"])
        # One to two cycles an instruction: flash waits, branches.
        seconds = 1.5 * instructions(report) / (board.megahertz * 1e6)
        cells = (
            f"[{board.name}]({board.source}), {board.core}",
            f"{board.flash // 1024:,} KB",
            f"{board.ram // 1024:,} KB",
        )
        yield f"| {' | '.join(cells)} | {'yes' if fit else 'no'} | {f'{1e3 * seconds:,.0f} ms' if fit else '-'} |"
    yield from (
        "",
        "RAM is the largest piece. Times are estimates: instructions counted in QEMU, 1.5 cycles each. Nothing was run",
        "on a board.",
        "",
    )


def _compared(report: Mapping[str, Any]) -> Iterator[str]:
    compiled, accuracy = report["compiled"], report["accuracy"]
    yield from (
        "## Compared with the float network",
        "",
        f"On {report['compared']['recordings']} recordings{judged_on(report)}:",
        f"same answer on {report['agreement']:.1%}, largest difference of a logit {report['largest_error']:.2g}.",
    )
    if accuracy:
        yield f"Accuracy {accuracy['loihi']:.1%}, float32 {accuracy['float32']:.1%}."
    yield (
        f"Compiled, it gave the logits of neuromoco's integer network on all {compiled['recordings']} recordings."
        if compiled
        else "It was not compiled: there was no C compiler. `make check` does that."
    )
    yield from ("", *(f"- {printable(warning)}" for warning in report["warnings"]))
