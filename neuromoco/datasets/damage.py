"""Files of a set that cannot be read: all named with their reasons, and left out where the user wants to go on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from neuromoco.datasets.folders import Listing
from neuromoco.errors import EventFileError
from neuromoco.support.cache import cache_folder
from neuromoco.support.console import console, printable
from neuromoco.support.files import write_text

MOST_IN_A_MESSAGE = 10
ADVICE = "--skip-damaged goes on without them"


class Problem(NamedTuple):
    """A file that cannot be used."""

    file: str  # as the listing names it
    reason: str  # one line that begins with its path
    passing: bool = False  # whether it may be usable another time


class DamagedFilesError(EventFileError):
    """Files of a set that cannot be used; all are named in the message, or in a file that it names."""

    def __init__(self, listing: Listing, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{listed(listing, problems)}; {ADVICE}")


def listed(listing: Listing, problems: Sequence[Problem]) -> str:
    """Every file with its reason, in one line; many are written to a file that the line names."""
    if len(problems) == 1:
        return problems[0].reason
    count = f"{listing.root}: {len(problems):,} of {len(set(listing.files)):,} files cannot be used"
    if len(problems) <= MOST_IN_A_MESSAGE:
        return "; ".join([count, *(problem.reason for problem in problems)])
    text = "".join(printable(problem.reason) + "\n" for problem in problems)
    path = cache_folder("damaged") / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"
    write_text(path, text)
    return f"{count}; {path} lists them with their reasons; the first is {problems[0].reason}"


def without_files(listing: Listing, problems: Sequence[Problem]) -> Listing:
    """A listing without some files; says so, and which classes have no recordings any more.

    Raises:
        EventFileError: no file is left.
    """
    bad = {problem.file for problem in problems}
    rows = [row for row, file in enumerate(listing.files) if file not in bad]
    if not rows:
        raise EventFileError(listed(listing, problems))
    console.print(f"left out: {listed(listing, problems)}", soft_wrap=True, markup=False)
    kept = listing.only(rows)
    present = sorted(set(kept.labels))
    if len(present) == len(kept.class_names):
        return kept
    lost = [name for label, name in enumerate(kept.class_names) if label not in present]
    console.print(f"without a readable recording, and left out: class {', '.join(lost)}", soft_wrap=True, markup=False)
    names = tuple(kept.class_names[label] for label in present)
    return replace(kept, labels=tuple(present.index(label) for label in kept.labels), class_names=names)
