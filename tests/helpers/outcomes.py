"""What comes of reading an event file, for the tests of readers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from neuromoco import EventFileError, Recording


def rows(recording: Recording) -> list[tuple[int, int, int, int]]:
    """(t, x, y, p) of every event."""
    return list(zip(*(getattr(recording, name).tolist() for name in "txyp"), strict=True))


def refusal_of(read: Callable[[], object], *kinds: type[Exception]) -> str:
    """Why a file is refused, in one line; that it is read is a failure."""
    with pytest.raises(kinds or EventFileError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def outcome_of(read: Callable[[], object]) -> str:
    """That a file is read, or why not in one line. Nothing else may happen."""
    try:
        read()
        message = "is read"
    except EventFileError as error:
        message = str(error)
    assert "\n" not in message
    return message
