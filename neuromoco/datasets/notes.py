"""Small facts about files, kept in the cache by the hash of their content: where their events lie, and what is damaged.

It only saves time: what is missing, damaged or cannot be written is found out again.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from neuromoco.errors import DiskError
from neuromoco.support.cache import cache_folder

FILE = "notes.sqlite"
AT_ONCE = 500  # keys of a query
WAIT_SECONDS = 60.0  # for another process that writes


def known_notes(keys: Iterable[bytes]) -> dict[bytes, Any]:
    """The notes that there are, by key, as plain data."""
    wanted = list(dict.fromkeys(keys))
    found: dict[bytes, Any] = {}

    def read(notes: sqlite3.Connection) -> None:
        for first in range(0, len(wanted), AT_ONCE):
            some = wanted[first : first + AT_ONCE]
            marks = ",".join("?" * len(some))
            for key, text in notes.execute(f"SELECT key, text FROM notes WHERE key IN ({marks})", some):
                with suppress(zlib.error, ValueError, TypeError):  # zlib has a checksum
                    found[key] = json.loads(zlib.decompress(text))

    _attempt(read)
    return found


def write_notes(notes: Mapping[bytes, Any]) -> None:
    """Keeps notes, plain data by key."""
    rows = [(key, zlib.compress(json.dumps(value).encode())) for key, value in notes.items()]
    _attempt(lambda file: file.executemany("INSERT OR REPLACE INTO notes VALUES (?, ?)", rows))


def _attempt(work: Callable[[sqlite3.Connection], Any]) -> None:
    path = cache_folder("notes") / FILE
    try:
        with _opened(path) as notes:
            work(notes)
    except sqlite3.OperationalError:  # a full disk, a lock that is held too long
        pass
    except sqlite3.DatabaseError:  # damaged
        with suppress(OSError):
            path.unlink()
    except OSError as error:
        raise DiskError(f"{path}: {error.strerror}") from error


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    if path.is_symlink():
        path.unlink()
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path, timeout=WAIT_SECONDS)) as notes, notes:
        notes.execute("CREATE TABLE IF NOT EXISTS notes (key BLOB PRIMARY KEY, text BLOB)")
        yield notes
