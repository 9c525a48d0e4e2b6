"""AEDAT4: the files of iniVation's DV software, decoded by the package `aedat`."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import aedat
import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events.recording import Recording

FORMAT = "AEDAT4"
MAGIC = b"#!AER-DAT4"
HEADER_AT = len(b"#!AER-DAT4.0\r\n")
LARGEST_HEADER = 1 << 20


def looks_like_aedat4(head: bytes, size: int) -> bool:
    """Whether the file begins as AEDAT4 files do."""
    return head.startswith(MAGIC)


def read_aedat4(path: Path) -> Recording:
    """Reads the events of a file; frames, IMU samples and triggers are passed over.

    Raises:
        EventFileError: damaged, without events, or with the events of several cameras.
    """
    _check_header(path)
    packets: dict[int, list[np.ndarray]] = {}
    try:
        decoder = aedat.Decoder(str(path))
        streams = decoder.id_to_stream()
        for packet in decoder:
            if "events" in packet and len(packet["events"]):
                packets.setdefault(packet["stream_id"], []).append(packet["events"])
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the decoder's panics are no Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EventFileError(f"the AEDAT4 file is cut or damaged ({reason})") from None
    if not packets:
        kinds = sorted({stream["type"] for stream in streams.values()})
        raise EventFileError(f"the AEDAT4 file holds no events; its streams are: {', '.join(kinds) or 'none'}")
    if len(packets) > 1:
        ids = ", ".join(str(i) for i in sorted(packets))
        raise EventFileError(f"the AEDAT4 file holds events of {len(packets)} cameras (streams {ids}); one is read")
    ((stream_id, parts),) = packets.items()
    stream = streams[stream_id]
    # Column by column: joining the packed structured arrays first is many times slower.
    t, x, y, p = (np.concatenate([part[name] for part in parts]) for name in ("t", "x", "y", "on"))
    return Recording.from_columns(t, x, y, p, width=stream["width"], height=stream["height"], source=FORMAT)


def _check_header(path: Path) -> None:
    """Refuses a damaged description of the streams: the decoder ends the whole process over one."""
    with path.open("rb") as file:
        file.seek(HEADER_AT)
        size = int.from_bytes(file.read(4), "little")
        header = file.read(min(size, LARGEST_HEADER))
    begin, end = header.find(b"<dv"), header.rfind(b"</dv>")
    try:
        if len(header) != size or begin < 0 or end < begin:
            raise ValueError("no description of its streams")
        ElementTree.fromstring(header[begin : end + len(b"</dv>")].decode("utf-8"))
    except (ValueError, ElementTree.ParseError) as error:
        raise EventFileError(f"the AEDAT4 file is cut or damaged ({error})") from error
