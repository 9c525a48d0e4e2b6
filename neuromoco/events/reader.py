"""One entry for every event file: its content decides how it is read, not its name.

To add a format, write a module with `looks_like_...(head, size)` and `open_...(path, options)` and add its row
to `MARKED`, or to `UNMARKED` if its files do not begin with a signature. The first row that recognises
the head of a file reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from neuromoco.errors import ConfigError, EventFileError
from neuromoco.events import atis, es
from neuromoco.events.aedat import aedat2, aedat3, aedat4
from neuromoco.events.arrays import mat, npy, npz
from neuromoco.events.clock import ANY_US, TABLE_US
from neuromoco.events.hdf5 import events as hdf5
from neuromoco.events.isolated.session import SESSION
from neuromoco.events.occupied import Extent, measure
from neuromoco.events.options import ReadOptions
from neuromoco.events.piped import seekable
from neuromoco.events.prophesee import dat, evt
from neuromoco.events.recording import LARGEST_SIDE, Recording
from neuromoco.events.ros import packets as ros
from neuromoco.events.stream import CutError, EventStream, gather, settle_sensor
from neuromoco.events.survey import Survey, survey
from neuromoco.events.text import lines as text
from neuromoco.events.text.header import looks_like_text
from neuromoco.events.windows import parts, windows
from neuromoco.support.files import files_in

HEAD_BYTES = 4000


class Format(NamedTuple):
    """A row of the table of formats."""

    key: str  # what `--format` calls it
    name: str
    recognises: Callable[[bytes, int], bool]  # (first bytes, size of the file)
    open: Callable[[Path, ReadOptions], EventStream]
    takes: tuple[str, ...] = ("sensor",)  # the `ReadOptions` that its reader uses, besides the format
    isolated: Callable[[bytes], bool] = lambda head: False  # whether a file is opened in a process of its own


def always(head: bytes) -> bool:
    """Isolates every file of a format."""
    return True


COLUMNS = ("sensor", "columns", "time_unit")  # what readers of columns take

ONE_CAMERA = ("sensor", "salvage")  # what readers of files with one camera take
CAMERAS = ("sensor", "select", "salvage")  # and of files with several

MARKED = (
    Format("aedat4", aedat4.FORMAT, aedat4.looks_like_aedat4, aedat4.open_aedat4, CAMERAS, always),
    Format("aedat3", aedat3.FORMAT, aedat3.looks_like_aedat3, aedat3.open_aedat3, CAMERAS),
    Format("aedat2", aedat2.FORMAT, aedat2.looks_like_aedat2, aedat2.open_aedat2, ONE_CAMERA),
    Format("evt", evt.FORMAT, evt.looks_like_evt, evt.open_evt, CAMERAS),
    Format("dat", dat.FORMAT, dat.looks_like_dat, dat.open_dat, ONE_CAMERA),
    Format("es", es.FORMAT, es.looks_like_es, es.open_es, ONE_CAMERA),
    Format("hdf5", hdf5.FORMAT, hdf5.looks_like_hdf5, hdf5.open_hdf5, (*COLUMNS, "select"), always),
    Format("ros", ros.FORMAT, ros.looks_like_ros, ros.open_ros, CAMERAS),
    Format("npz", npz.FORMAT, npz.looks_like_npz, npz.open_npz, (*COLUMNS, "select")),
    Format("npy", npy.FORMAT, npy.looks_like_npy, npy.open_npy, (*COLUMNS, "salvage")),
    Format("mat", mat.FORMAT, mat.looks_like_mat, mat.open_mat, (*COLUMNS, "select"), always),
)
UNMARKED = (
    Format("csv", text.FORMAT, looks_like_text, text.open_text, (*COLUMNS, "salvage")),
    Format("atis", atis.FORMAT, atis.looks_like_atis, atis.open_atis, ONE_CAMERA),
)
FORMATS = {row.key: row for row in MARKED + UNMARKED}

# Files that people give by mistake: the message names their kind.
OTHERS = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive without numpy arrays"),
    (b"\x1f\x8b", "a gzip file (unpack it first)"),
    (b"7z\xbc\xaf", "a 7z archive (unpack it first)"),
    (b"#ROSBAG", "a ROS bag of an old version (run rosbag fix)"),
    (b"#!AER-DAT", "an AEDAT recording of an unknown version"),
    (b"% ", "a Prophesee recording of an unknown kind"),
)


def readable_formats() -> str:
    """The names of the formats that `read_recording` reads, for messages."""
    return ", ".join(row.name for row in MARKED + UNMARKED)


def read_recording(
    path: Path | str, start: int | None = None, stop: int | None = None, options: ReadOptions | None = None
) -> Recording:
    """Reads an event recording of any known format, recognised by its content.

    Examples:
        >>> from neuromoco.events import read_recording
        >>> recording = read_recording("models/examples/3.bin")
        >>> len(recording), recording.width, recording.height, recording.source
        (4364, 34, 34, 'ATIS .bin')
        >>> len(read_recording("models/examples/3.bin", stop=100_000))
        1599

    Args:
        path: the file; "-" is the standard input.
        start: where the interval begins, in microseconds from the first event.
        stop: where it ends, exclusive, in microseconds from the first event.
        options: what the file does not say itself.

    Returns:
        All events of the interval in order of time, with columns t, x, y, p [E].

    Raises:
        EventFileError: the file is missing, empty, damaged or of another kind. The message is one
            line that begins with the path.
        ConfigError: `options` names an unknown format, or has one that the format does not take.
        MissingExtraError: the format needs a package that is not installed.
    """
    with _naming(path):
        begin = _open if start is None and stop is None else _open_sized  # the sensor is that of the whole file
        return gather(begin(Path(path), options or ReadOptions()), start, stop)


def read_windows(path: Path | str, length: int, options: ReadOptions | None = None) -> Iterator[Recording]:
    """Reads a recording in consecutive windows of equal duration. Memory does not grow with the file.

    Examples:
        >>> from neuromoco.events import read_windows
        >>> [len(window) for window in read_windows("models/examples/3.bin", 100_000)]
        [1599, 1543, 1213, 9]

    Args:
        path: the file.
        length: duration of a window in microseconds.
        options: what the file does not say itself.

    Yields:
        The windows in order of time, empty ones included; the last may be shorter.

    Raises:
        EventFileError: see `read_recording`; or the events are in no order of time.
        ConfigError: `options` names an unknown format, or has one that the format does not take.
        MissingExtraError: the format needs a package that is not installed.
    """
    with _naming(path):
        yield from windows(_open_sized(Path(path), options or ReadOptions()), length)


def read_parts(
    path: Path | str, spans: Sequence[tuple[int, int]], options: ReadOptions | None = None
) -> Iterator[Recording]:
    """Reads parts of a recording, which may overlap. Memory grows with the longest part, not with the file.

    Args:
        path: the file.
        spans: begin and excluded end of each part, microseconds of the file's clock; neither decreases.
        options: what the file does not say itself.

    Yields:
        The parts, also those without events.

    Raises:
        EventFileError: see `read_recording`; or the events are in no order of time.
        ConfigError: `options` names an unknown format, or has one that the format does not take.
        MissingExtraError: the format needs a package that is not installed.
    """
    with _naming(path):
        yield from parts(_open_sized(Path(path), options or ReadOptions()), spans)


def survey_recording(path: Path | str, options: ReadOptions | None = None) -> Survey:
    """Gathers facts about a file in bounded memory, in one pass.

    There are two if the file does not name its sensor, or its events are in no order of time.

    Examples:
        >>> from neuromoco.events import survey_recording
        >>> survey = survey_recording("models/examples/3.bin")
        >>> survey.events, survey.first_us, survey.last_us, survey.unsorted
        (4364, 2233, 308559, 0)

    Args:
        path: the file.
        options: what the file does not say itself.

    Raises:
        EventFileError: see `read_recording`.
        ConfigError: `options` names an unknown format, or has one that the format does not take.
        MissingExtraError: the format needs a package that is not installed.
    """
    with _naming(path):
        stream = _open_sized(Path(path), options or ReadOptions())
        facts = survey(stream)
        if stream.clock.disordered:
            stream = _open_sized(Path(path), options or ReadOptions())
            stream.clock.late_us = ANY_US
            facts = survey(stream)
        return facts


def recording_extent(path: Path | str, options: ReadOptions | None = None, whole: bool = False) -> Extent:
    """Where and when the events of a file lie; one that names its sensor is read only if `whole`.

    Raises:
        EventFileError: see `read_recording`.
        ConfigError: `options` names an unknown format, or has one that the format does not take.
        MissingExtraError: the format needs a package that is not installed.
    """
    with _naming(path):
        return measure(_open(Path(path), options or ReadOptions()), whole)


def _open_sized(path: Path, options: ReadOptions) -> EventStream:
    """Opens a file; if it does not name its sensor, its events are read once to find their extent."""
    stream = _open(path, options)
    settle_sensor(stream, lambda: _open(path, options).events())
    return stream


def _open(path: Path, options: ReadOptions) -> EventStream:
    path = seekable(path)
    if path.is_dir():
        inside = next((file.relative_to(path) for file in files_in([path]) if file != path), None)
        raise EventFileError(f"is a folder; give the files in it, such as {inside}" if inside else "is an empty folder")
    if path.is_fifo():
        raise EventFileError("is a named pipe; give - and its content: neuromoco info - < PIPE")
    if path.exists() and not path.is_file():
        raise EventFileError("is no regular file")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    size = path.stat().st_size
    if size == 0:
        raise EventFileError("is empty (0 bytes)")
    row = _format_of(head, size, options)
    _check_options(path, row, options)
    stream, options = _begin(row, head, path, options)
    if options.sensor:
        stream.width, stream.height = options.sensor
    if not all(side is None or 1 <= side <= LARGEST_SIDE for side in (stream.width, stream.height)):
        raise EventFileError(f"a sensor of {stream.width} x {stream.height}; a side has 1 to {LARGEST_SIDE} pixels")
    stream.flip, stream.salvage, stream.size = options.flip or "", options.salvage, size
    if "columns" in row.takes:
        stream.clock.late_us = TABLE_US
    return stream


def _begin(row: Format, head: bytes, path: Path, options: ReadOptions) -> tuple[EventStream, ReadOptions]:
    """The stream of a file, and the options that it is read with."""

    def begin(given: ReadOptions) -> EventStream:
        return SESSION.open(row.key, path, given) if row.isolated(head) else row.open(path, given)

    known, given = options.default_sensor, replace(options.completed(row.takes), format=row.key)
    try:
        stream = begin(given)
    except EventFileError:  # some formats cannot be opened without the sensor
        if given.sensor or known is None or "sensor" not in row.takes:
            raise
        stream = begin(replace(given, sensor=known))
    if known is not None and (stream.width is None or stream.height is None):
        given = replace(given, sensor=given.sensor or known)
    return stream, given


def _check_options(path: Path, row: Format, options: ReadOptions) -> None:
    """Refuses an option that the reader of a format does not take."""
    words = {name: f"--{name.replace('_', '-')}" for name in options.given()}
    if unused := [word for name, word in words.items() if name not in row.takes]:
        taken = ", ".join(f"--{name.replace('_', '-')}" for name in row.takes)
        raise ConfigError(f"{path}: {unused[0]} with the format {row.name}, which takes {taken}")


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """Makes errors begin with the path of the file."""
    try:
        yield
    except FileNotFoundError:
        raise EventFileError(f"{path}: does not exist") from None
    except OSError as error:
        raise EventFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except EventFileError as error:
        hint = "; --salvage reads what comes before" if isinstance(error, CutError) else ""
        raise EventFileError(f"{path}: {error}{hint}") from error.__cause__


def _format_of(head: bytes, size: int, options: ReadOptions) -> Format:
    """The format that the user names, or else the one that recognises the file."""
    if options.format is not None:
        return _format_named(options.format)
    for row in MARKED:
        if row.recognises(head, size):
            return row
    for magic, what in OTHERS:
        if head.startswith(magic):
            raise EventFileError(f"is {what}; neuromoco reads {readable_formats()}")
    if options.defaults and options.defaults.format is not None:
        return _format_named(options.defaults.format)
    for row in UNMARKED:
        if row.recognises(head, size):
            return row
    raise EventFileError(f"is no event recording that neuromoco knows; it reads {readable_formats()}")


def _format_named(key: str) -> Format:
    if key not in FORMATS:
        raise ConfigError(f"no format named {key!r}; known are {', '.join(FORMATS)}")
    return FORMATS[key]
