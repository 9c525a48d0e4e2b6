"""neuromoco: unlabelled event-camera recordings in, a small spiking classifier out.

Importing the package loads no torch: recordings, frames and settings need numpy only. Training lives
in `neuromoco.train`, encoders in `neuromoco.encoders`, the method in `neuromoco.moco`.
"""

from importlib.metadata import version

from neuromoco.errors import (
    CheckpointError,
    ConfigError,
    EventFileError,
    MissingExtraError,
    NeuromocoError,
    ParityError,
    UnsupportedLayerError,
)
from neuromoco.events import Recording, read_recording
from neuromoco.frames import to_frames

__version__ = version("neuromoco")

__all__ = [
    "CheckpointError",
    "ConfigError",
    "EventFileError",
    "MissingExtraError",
    "NeuromocoError",
    "ParityError",
    "Recording",
    "UnsupportedLayerError",
    "__version__",
    "read_recording",
    "to_frames",
]
