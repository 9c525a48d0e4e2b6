"""Formats that recordings are written in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from neuromoco.errors import ConfigError
from neuromoco.events import atis
from neuromoco.events.aedat import aedat4_writer
from neuromoco.events.arrays import npz
from neuromoco.events.prophesee import evt_writer
from neuromoco.events.recording import Recording
from neuromoco.events.text import lines as text

Writer = Callable[[Path, Recording], None]
WRITERS: dict[str, Writer] = {
    "npz": npz.write_npz,
    "csv": text.write_csv,
    "aedat4": aedat4_writer.write_aedat4,
    "evt2": evt_writer.write_evt2,
    "evt3": evt_writer.write_evt3,
    "atis": atis.write_atis,
}
# The formats that a file name implies; .raw is EVT2 or EVT3, so it implies none.
SUFFIXES = {".npz": "npz", ".csv": "csv", ".aedat4": "aedat4", ".bin": "atis"}


def writer_for(path: Path, format: str | None) -> Writer:
    """The writer of a format, or of the format that the file name implies.

    Examples:
        >>> writer_for(Path("walk.npz"), None).__name__
        'write_npz'

    Raises:
        ConfigError: an unknown format, or a name that implies none.
    """
    key = format or SUFFIXES.get(path.suffix.lower())
    if key is None:
        raise ConfigError(f"{path}: its name says no format; give --to with one of {', '.join(WRITERS)}")
    if key not in WRITERS:
        raise ConfigError(f"--to {key}: written are {', '.join(WRITERS)}")
    return WRITERS[key]
