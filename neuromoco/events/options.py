"""What is known of an event file besides its content: from the user, or from the other recordings of a set."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Literal


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about a file; it wins over what the file says.

    Attributes:
        format: short name of a format, for files that cannot be recognised.
        sensor: width and height in pixels.
        columns: order of the columns of a text or an array, such as "xytp", or their names, such as "t=timestamp".
        time_unit: unit of the times in a text or an array.
        select: which camera of a file with several: a topic of a ROS recording, a stream of AEDAT4, ...
        flip: "x", "y" or "xy": directions in which the camera counts the other way.
        salvage: read the undamaged beginning of a cut file.
        defaults: of a set, or of a network; they count where these say nothing, and of sensor, columns and unit also
            the file does not.
    """

    format: str | None = None
    sensor: tuple[int, int] | None = None
    columns: str | None = None
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    select: str | None = None
    flip: Literal["x", "y", "xy"] | None = None
    salvage: bool = False
    defaults: ReadOptions | None = None

    def given(self) -> list[str]:
        """The options that the user gives, without those that every reader takes."""
        every = ("format", "flip", "defaults")
        return [f.name for f in fields(self) if f.name not in every and getattr(self, f.name) != f.default]

    def completed(self, takes: Collection[str]) -> ReadOptions:
        """The options for a reader that takes some, with those of the defaults that no file says of itself."""
        names = {"flip", *takes} - {"sensor", "columns", "time_unit"}
        known = self.defaults or self
        missing = {name: getattr(known, name) for name in names if not getattr(self, name)}
        return replace(self, **missing, defaults=ReadOptions(columns=known.columns, time_unit=known.time_unit))

    def unit(self, of_file: str | None) -> str | None:
        """The unit of times: as the user says, or as the file does, or that of the defaults."""
        return self.time_unit or of_file or (self.defaults.time_unit if self.defaults else None)

    @property
    def ways(self) -> tuple[str | None, ...]:
        """What is known of the columns, in the order in which it counts; None for the names in the file.

        What the user says counts alone; names of the defaults before those in the file, which may have both; an order
        of the defaults for a file without names.
        """
        usual = self.defaults.columns if self.defaults else None
        if self.columns is not None or usual is None:
            return (self.columns,)
        return (usual, None) if "=" in usual else (None, usual)

    @property
    def default_sensor(self) -> tuple[int, int] | None:
        """The sensor of a file that does not name it."""
        return self.defaults.sensor if self.defaults else None
