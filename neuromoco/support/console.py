"""Messages and progress bars on standard error, so that results can be piped from standard output."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

console = Console(stderr=True, highlight=False)

Item = TypeVar("Item")


@cache
def say_once(message: str) -> None:
    """Prints a message once per process, however often it is called."""
    console.print(message, soft_wrap=True)


def is_first_here() -> bool:
    """Whether this is the first process that a launcher such as torchrun started on this machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


class RateColumn(ProgressColumn):
    """Samples per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed else "-/s")


@contextmanager
def silence() -> Iterator[None]:
    """Mutes the console within this context."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def progress_bar() -> Progress:
    """A bar with count, rate, time left and a field `note`; shown only on a terminal."""
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
    """Yields items and shows a progress bar named `what`."""
    with progress_bar() as bar:
        yield from bar.track(items, task_id=bar.add_task(what, total=None, note=""))
