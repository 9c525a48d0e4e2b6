"""Timelines of `predict`: their options, how they are printed, and the table of labels that they are written to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from neuromoco.app.cli.arguments import microseconds
from neuromoco.datasets.label_table import LabelledPart, write_label_table
from neuromoco.errors import ConfigError
from neuromoco.evaluation.segments import SegmentScores
from neuromoco.events.piped import is_pipe
from neuromoco.runtime.timeline import Timeline
from neuromoco.support.console import escape

PANEL = "Timelines: what long recordings show, and when"
AsTimeline = Annotated[
    bool, typer.Option("--timeline", help="Say what shows when. Other options here imply it.", rich_help_panel=PANEL)
]
Stride = Annotated[
    str | None,
    typer.Option(help="From one window to the next, such as 50ms; by default a sixth of it.", rich_help_panel=PANEL),
]
Pause = Annotated[
    str | None,
    typer.Option(help="How long a pause is quiet, at least; by default a third of a window.", rich_help_panel=PANEL),
]
Shortest = Annotated[
    str | None,
    typer.Option(
        help="Length of a segment, at least; by default half of the shortest training recording.", rich_help_panel=PANEL
    ),
]
Quietest = Annotated[
    float | None,
    typer.Option(
        "--quiet-below",
        help="Events per second below which it is quiet; by default by the background.",
        rich_help_panel=PANEL,
    ),
]
Least = Annotated[
    float | None,
    typer.Option(help="Probability below which a segment is unknown; by default 0.5.", rich_help_panel=PANEL),
]
LabelsOut = Annotated[
    Path | None,
    typer.Option(
        "--labels-out",
        help="Write segments as a table of labels, which train and evaluate take.",
        rich_help_panel=PANEL,
    ),
]


def timeline_settings(
    asked: bool,
    window: str | None,
    durations: Mapping[str, str | None],
    numbers: Mapping[str, float | None],
    labels_out: Path | None,
) -> dict[str, Any] | None:
    """Settings of `TimelineRule.for_recordings` from the words of the command line; None if no timeline is asked for.

    Raises:
        ConfigError: a word that is no duration.
    """
    given: dict[str, Any] = {f"{name}_us": microseconds(word) for name, word in durations.items() if word is not None}
    given |= {name: number for name, number in numbers.items() if number is not None}
    if not (asked or given or labels_out):
        return None
    return given | ({} if window is None else {"window_us": microseconds(window)})


def timeline_table(file: Path, timeline: Timeline) -> Table:
    """The segments of a recording, with the rule."""
    rule = timeline.rule
    figures = ((rule.window_us, "window"), (rule.stride_us, "stride"), (rule.pause_us, "pauses from"))
    settings = ", ".join(f"{name} {us / 1e3:,.4g} ms" for us, name in figures)
    title = f"{escape(str(file))}: {timeline.duration_us / 1e6:,.4g} s; {settings}"
    table = Table("begin", "end", "class", "confidence", title=title, title_justify="left", box=None, padding=(0, 2))
    for column in (0, 1, 3):
        table.columns[column].justify = "right"
    for segment in timeline.segments:
        unknown = "pause" if segment.why == "pause" else f"unknown, {segment.why}"
        label = unknown if segment.label is None else f"[bold]{escape(segment.label)}[/]"
        sure = "" if segment.confidence is None else f"{segment.confidence:.1%}"
        times = (f"{us / 1e6:,.3f} s" for us in (segment.begin_us, segment.end_us))
        table.add_row(*times, label, sure, style="dim" if segment.label is None else "")
    return table


def scores_table(scores: SegmentScores) -> Table:
    """Scores of timelines with their intervals."""
    counts = f"{scores.answered:,} segments answered, {scores.true:,} labelled, in {scores.recordings:,} recordings"
    table = Table("score", "value", "95 % interval", title=counts, title_justify="left")
    rows = [("frame accuracy", "frame_accuracy", scores.frame_accuracy), ("edit score", "edit_score", scores.edit)]
    rows += [(f"segment F1 at overlap {o:g}", f"segment_f1_{o:g}", value) for o, value in scores.f1.items()]
    for words, name, value in rows:
        ends = scores.intervals.get(name)
        table.add_row(words, f"{value:.3f}", f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "one recording")
    return table


def table_root(files: Sequence[Path]) -> Path:
    """The folder from which a table names files: the one that holds all of them.

    Raises:
        ConfigError: a pipe, which has no name.
    """
    if any(map(is_pipe, files)):
        raise ConfigError("--labels-out with a pipe, which has no name that a table could give: give the file")
    return Path(os.path.commonpath([file.absolute().parent for file in files]))


def write_segments(path: Path, root: Path, timelines: Mapping[Path, Timeline]) -> tuple[int, int]:
    """Writes the segments of known class as a table of labels, with times of the files' own clocks.

    Returns:
        How many were written, and how many are of unknown class, pauses aside.

    Raises:
        ConfigError: there are none, or a name that cannot stand in a table.
        DiskError: the disk is full, read-only or gone.
    """
    parts, unknown = [], 0
    for file, timeline in timelines.items():
        name, first = file.absolute().relative_to(root).as_posix(), timeline.first_us
        for segment in timeline.segments:
            if segment.label is not None:
                span = (first + segment.begin_us, first + segment.end_us)
                parts.append(LabelledPart(name, span, segment.label, None, ""))
            unknown += segment.label is None and segment.why != "pause"
    if not parts:
        raise ConfigError(f"{path}: is not written: no segment has a class")
    write_label_table(path, parts)
    return len(parts), unknown
