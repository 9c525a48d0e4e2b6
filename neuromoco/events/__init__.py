"""Event recordings: the in-memory form, the formats, and the table that recognises them."""

from neuromoco.events.atis import write_atis
from neuromoco.events.npz import write_npz
from neuromoco.events.reader import read_recording
from neuromoco.events.recording import Recording

__all__ = ["Recording", "read_recording", "write_atis", "write_npz"]
