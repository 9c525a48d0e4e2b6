"""Cameras, through the packages of their makers where those are installed; none of them is needed otherwise.

Each class opens a camera and gives batches of columns; `CameraSource` opens it again if it goes away.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.app.live.source import Sensor
from neuromoco.errors import ConfigError, MissingPackageError
from neuromoco.events import ReadOptions, Recording
from neuromoco.events.stream import Columns

AGAIN_SECONDS = 1.0  # until a camera that went away is looked for again
EMPTY_SECONDS = 0.001  # until one that has nothing yet is asked again
Batches = tuple[tuple[int, int], Iterator[Columns | None]]  # the sensor, and events; None of none yet
FAULTS = (RuntimeError, OSError, ValueError, LookupError)  # what these packages raise if there is no camera, or no more


def _columns(events: NDArray[Any], polarity: str, time_name: str = "t") -> Columns:
    """Columns of a structured array."""
    t, x, y, p = (np.ascontiguousarray(events[name]) for name in (time_name, "x", "y", polarity))
    return Columns(t.astype(np.int64), x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8))


def dv_batches(camera: Any) -> Batches:
    """Events of a `CameraInputBase`, a `MonoCameraRecording` or a `NetworkReader` of dv-processing."""

    def batches() -> Iterator[Columns | None]:
        while camera.isRunning():
            events = camera.getNextEventBatch()
            yield None if events is None else _columns(events.numpy(), "polarity", "timestamp")

    width, height = camera.getEventResolution()
    return (int(width), int(height)), batches()


def _dv(package: Any, serial: str) -> Batches:
    return dv_batches(package.io.camera.open(*([serial] if serial else [])))


def _metavision(package: Any, serial: str) -> Batches:
    iterator = package.EventsIterator(input_path=serial, delta_t=2000)  # an empty path is the first camera
    height, width = iterator.get_size()
    return (int(width), int(height)), (_columns(events, "p") if len(events) else None for events in iterator)


def _neuromorphic(package: Any, serial: str) -> Batches:
    device = package.open(serial=serial or None)
    sensor = device.properties()

    def batches() -> Iterator[Columns | None]:
        for _, packet in device:
            events = getattr(packet, "polarity_events", None)
            yield None if events is None or not len(events) else _columns(events, "on")

    return (int(sensor.width), int(sensor.height)), batches()


def _event_camera_drivers(package: Any, serial: str) -> Batches:
    if serial:
        raise ConfigError("event-camera-drivers opens the first camera: leave the serial number out")
    camera = package.InivationCamera()
    width, height = camera.resolution()
    return (int(width), int(height)), (_columns(events, "on") if len(events) else None for events in camera)


# By the word after `camera:`: the module, how it is installed, and what opens it.
CAMERAS: dict[str, tuple[str, str, Callable[[Any, str], Batches]]] = {
    "dv": ("dv_processing", "pip install dv-processing", _dv),
    "metavision": ("metavision_core.event_io", "OpenEB or Metavision SDK, see docs.prophesee.ai", _metavision),
    "neuromorphic": ("neuromorphic_drivers", "pip install neuromorphic-drivers", _neuromorphic),
    "inivation": ("event_camera_drivers", "pip install event-camera-drivers", _event_camera_drivers),
}


class CameraSource:
    """A camera; one that goes away is opened again when it is there again.

    Args:
        word: a key of `CAMERAS`, with a serial number behind a colon if there are several cameras.
        options: what the user says.

    Raises:
        ConfigError: no such word.
        MissingPackageError: its package is not installed.
    """

    waits = False
    clock_rate = 1.0
    goes_on = True

    def __init__(self, word: str, options: ReadOptions) -> None:
        kind, _, self._serial = word.partition(":")
        if kind not in CAMERAS:
            raise ConfigError(f"camera:{kind}: no such kind of camera; there are {', '.join(CAMERAS)}")
        module, how, self._open = CAMERAS[kind]
        try:
            self._package = importlib.import_module(module)
        except ImportError:
            raise MissingPackageError(f"camera:{kind} needs the package {module.split('.')[0]}: {how}") from None
        self.name, self._options = f"camera:{word}", options
        self._sensor: Sensor | None = None
        self._closed = threading.Event()
        self._was_there = False

    def chunks(self) -> Iterator[Recording | str]:
        """See `Source`."""
        while not self._closed.is_set():
            try:
                size, batches = self._open(self._package, self._serial)
                yield f"{self.name}: {size[0]} x {size[1]} pixels"
                self._was_there = True
                self._sensor = self._sensor or Sensor(size, self._options, self.name)
                yield from self._read(self._sensor, batches)
            except FAULTS as error:
                if not self._was_there:
                    reason = " ".join(str(error).split())[:200]
                    raise ConfigError(f"{self.name}: no camera was found ({reason})") from None
            if not self._closed.is_set():
                yield f"{self.name}: went away; it is looked for every second"
                self._closed.wait(AGAIN_SECONDS)

    def _read(self, sensor: Sensor, batches: Iterator[Columns | None]) -> Iterator[Recording]:
        for columns in batches:
            if self._closed.is_set():
                return
            if columns is None:
                time.sleep(EMPTY_SECONDS)
            elif len(columns.t):
                yield sensor.recording(columns)

    def close(self) -> None:
        """See `Source`."""
        self._closed.set()

    def losses(self) -> dict[str, int]:
        """See `Source`."""
        return {"outside_sensor": self._sensor.stray.outside if self._sensor else 0}
