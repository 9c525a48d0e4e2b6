"""A simulated event camera: image -> recording."""

from neuromoco.simulate.camera import SensorConfig, record
from neuromoco.simulate.motion import ClosedLoop, Motion, Saccades

__all__ = ["ClosedLoop", "Motion", "Saccades", "SensorConfig", "record"]
