"""What a person sees while something runs: on standard error, so that results can be piped."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console(stderr=True, highlight=False)

Item = TypeVar("Item")


@cache
def say_once(what: str) -> None:
    """Says it once a process, however often it is asked to."""
    console.print(what, soft_wrap=True)


def is_first_here() -> bool:
    """Whether this is the first of the processes that a launcher started on this machine: one voice is enough."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


class RateColumn(ProgressColumn):
    """Samples a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed else "-/s")


@contextmanager
def silence() -> Iterator[None]:
    """Nothing is shown meanwhile."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def progress_bar() -> Progress:
    """A bar with count, rate, time left and a free text; only shown on a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=console.quiet or not console.is_terminal,
        transient=True,
    )


def track(items: Iterable[Item], what: str) -> Iterator[Item]:
    """Goes through items under a bar."""
    total = len(items) if isinstance(items, Sized) else None
    with progress_bar() as bar:
        task = bar.add_task(what, total=total, note="")
        for item in items:
            yield item
            bar.advance(task)
