"""Events as a reader gives them."""

from collections.abc import Iterator

from neuromoco.events.stream import PIECE, Columns


def in_pieces(columns: Columns, size: int = PIECE) -> Iterator[Columns]:
    """Columns piece by piece."""
    for first in range(0, len(columns.t), size):
        yield columns.take(slice(first, first + size))
