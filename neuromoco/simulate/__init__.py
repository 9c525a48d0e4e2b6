"""A simulated event camera: image -> recording."""

from neuromoco.simulate.camera import Crossings, SensorConfig, background, crossings, move, record, rest
from neuromoco.simulate.motion import ClosedLoop, Motion, Saccades

__all__ = [
    "ClosedLoop",
    "Crossings",
    "Motion",
    "Saccades",
    "SensorConfig",
    "background",
    "crossings",
    "move",
    "record",
    "rest",
]
