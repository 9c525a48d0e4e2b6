"""How the recordings of a set are read and become samples: the section `recordings` of a run's settings.

A set may have them beside its files, in `recordings.yaml`; a run's own settings win over that file.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from neuromoco.config.base import Settings

UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000}
Side = Annotated[int, Field(gt=0, lt=1 << 16)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]


def duration_us(text: str) -> int:
    """Microseconds of a duration such as 500ms, 2s or 250us; ValueError if it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s)", text.strip())
    length = round(float(match[1]) * UNITS[match[2]]) if match else 0
    if not 0 < length < 1 << 53:
        raise ValueError(f"a duration of {text[:50]!r}; give a number and us, ms or s, for example 500ms")
    return length


def sides(text: str) -> tuple[int, int]:
    """Width and height of a sensor such as 640x480; ValueError if they are none."""
    match = re.fullmatch(r"(\d{1,5})\s*[xX]\s*(\d{1,5})", text.strip())
    if not match or not all(1 <= int(side) <= 65535 for side in match.groups()):
        raise ValueError(f"a sensor of {text[:50]!r}; give width and height, for example 640x480")
    return int(match[1]), int(match[2])


def _duration(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError(f"a duration of {value!r}; give a number and us, ms or s, for example 500ms")
    return duration_us(value)


Sensor = Annotated[tuple[Side, Side], BeforeValidator(lambda value: sides(value) if isinstance(value, str) else value)]
Duration = Annotated[int, BeforeValidator(_duration), PlainSerializer(lambda value: f"{value}us", str)]


class ReadingConfig(Settings):
    """What the files of a set do not say of themselves, see `neuromoco.events.ReadOptions`.

    Attributes:
        format: short name of a format, for files that cannot be recognised.
        sensor: width and height in pixels, such as [640, 480] or 640x480.
        columns: order or names of columns.
        time_unit: unit of the times in a text or an array.
        select: which camera of files with several.
        flip: directions in which the camera counts the other way.
    """

    format: Text | None = Field(None, description="Format of files without a signature, such as dat without a header.")
    sensor: Sensor | None = Field(None, description="Sensor size in pixels, if the file does not name it.")
    columns: Text | None = Field(
        None,
        description="Order of columns, such as txyp (_ skips one), or their names, such as t=timestamp,x=x_pos.",
    )
    time_unit: Literal["s", "ms", "us", "ns"] | None = Field(
        None, description="Unit of times in a text file or an array that does not name it."
    )
    select: Text | None = Field(
        None, description="Which camera of a file with several, such as a topic; an error lists them."
    )
    flip: Literal["x", "y", "xy"] | None = Field(
        None, description="Mirror columns (x), rows (y) or both, for a camera mounted the other way."
    )


class RecordingsConfig(ReadingConfig):
    """How the recordings of a set are read and become samples.

    Attributes:
        salvage: read the undamaged beginning of cut files.
        skip_damaged: go on without files that cannot be read.
        labels: a table of labels, see `neuromoco.datasets.label_table`; a path, from the set's folder if relative.
        window: length of the samples that recordings are cut into, such as 500ms; None takes each as a whole.
        stride: from the begin of one to the begin of the next; None is `window`.
        label_times: what the table's times count from: the file's own "clock", or the "start", its first event.
        group: the column of the table whose values are never on both sides of a split, such as subject.
    """

    salvage: bool = Field(False, description="Read the undamaged beginning of a cut file.")
    skip_damaged: bool = False
    labels: Text | None = None
    window: Duration | None = None
    stride: Duration | None = None
    label_times: Literal["clock", "start"] = "clock"
    group: Text | None = None

    def given(self) -> dict[str, Any]:
        """The values that differ from the defaults."""
        return {name: value for name, value in self if value != type(self).model_fields[name].default}

    def to_plain(self) -> dict[str, Any]:
        """The values that differ from the defaults, as settings are written."""
        return self.model_dump(include=set(self.given()))

    def over(self, other: RecordingsConfig) -> RecordingsConfig:
        """These settings, and those of another where these are defaults."""
        return other.model_copy(update=self.given())


# The options for reading one file, in words: of the command line, of a form, of the page.
READING = (*ReadingConfig.model_fields, "salvage")
DESCRIBED = {name: str(RecordingsConfig.model_fields[name].description) for name in READING}
