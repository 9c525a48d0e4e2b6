"""Messages and progress bars on standard error, so that results can be piped from standard output.

Names of files and classes, and what files say of themselves, may hold characters that a terminal obeys, that break a
line in two, or that turn the order of the text round: what is printed passes `printable` or `escape`, which show them.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from rich import markup
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Item = TypeVar("Item")
# Controls, formats such as a change of the reading direction, halves of surrogates, separators of lines and paragraphs.
UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def printable(text: str, kept: str = "") -> str:
    r"""The text with characters that a terminal may obey shown as escapes, such as `\x1b`; but not those of `kept`."""
    if text.isprintable():
        return text
    return "".join(_shown(c) if unicodedata.category(c) in UNPRINTABLE and c not in kept else c for c in text)


def _shown(character: str) -> str:
    return character.encode("unicode_escape").decode()


def escape(text: str) -> str:
    """A name or another text from outside, as it may stand in what `print` of a console takes: one line, no markup."""
    return markup.escape(printable(text))


class PlainConsole(Console):
    """A console that shows control characters in what it prints, other than ends of lines, rather than sending them."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Renders a string: also the cells and titles of tables come here."""
        return super().render_str(printable(text, kept="\n\t"), **options)


console = PlainConsole(stderr=True, highlight=False)


@cache
def say_once(message: str) -> None:
    """Prints a message once per process, however often it is called."""
    console.print(printable(message), soft_wrap=True, markup=False)


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
