"""Event recordings: the in-memory form, the formats, and the table that recognises them."""

from neuromoco.events.arrays.npz import write_npz
from neuromoco.events.atis import write_atis
from neuromoco.events.options import ReadOptions
from neuromoco.events.reader import read_recording, read_windows, survey_recording
from neuromoco.events.recording import Recording

__all__ = ["ReadOptions", "Recording", "read_recording", "read_windows", "survey_recording", "write_atis", "write_npz"]
