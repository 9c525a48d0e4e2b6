"""AEDAT4: the files of iniVation's DV software, decoded by the package `aedat`."""

from __future__ import annotations

from pathlib import Path

import aedat
import numpy as np

from neuromoco.errors import EventFileError
from neuromoco.events.recording import Recording

FORMAT = "AEDAT4"
MAGIC = b"#!AER-DAT4"


def looks_like_aedat4(head: bytes, size: int) -> bool:
    """Whether the file begins as AEDAT4 files do."""
    return head.startswith(MAGIC)


def read_aedat4(path: Path) -> Recording:
    """Reads the events of a file; frames, IMU samples and triggers are passed over.

    Raises:
        EventFileError: damaged, without events, or with the events of several cameras.
    """
    packets: dict[int, list[np.ndarray]] = {}
    try:
        decoder = aedat.Decoder(str(path))
        streams = decoder.id_to_stream()
        for packet in decoder:
            if "events" in packet and len(packet["events"]):
                packets.setdefault(packet["stream_id"], []).append(packet["events"])
    except RuntimeError as error:  # the decoder's only exception
        raise EventFileError(f"the AEDAT4 file is cut or damaged ({error})") from error
    if not packets:
        kinds = sorted({stream["type"] for stream in streams.values()})
        raise EventFileError(f"the AEDAT4 file holds no events; its streams are: {', '.join(kinds) or 'none'}")
    if len(packets) > 1:
        ids = ", ".join(str(i) for i in sorted(packets))
        raise EventFileError(f"the AEDAT4 file holds events of {len(packets)} cameras (streams {ids}); one is read")
    (stream_id, parts), stream = next(iter(packets.items())), streams
    # Column by column: joining the packed structured arrays first is many times slower.
    t, x, y, p = (np.concatenate([part[name] for part in parts]) for name in ("t", "x", "y", "on"))
    return Recording.from_columns(
        t, x, y, p, width=stream[stream_id]["width"], height=stream[stream_id]["height"], source=FORMAT
    )
