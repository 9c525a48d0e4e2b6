"""How recordings become frames."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from neuromoco.config.base import Pixels, PositiveInt, Settings

LARGEST_FRAMES = 1 << 24  # numbers of one polarity in a recording: 18 steps of 720 x 1280 pixels


def crop_of(text: str) -> tuple[int, int, int, int] | Literal["activity"]:
    """The part of a sensor in a text such as 40,30,64,64, or activity; ValueError if it is neither."""
    parts = text.split(",")
    if text.strip() == "activity":
        return "activity"
    if len(parts) == 4 and all(re.fullmatch(r"\d{1,5}", part.strip(), re.ASCII) for part in parts):
        x, y, width, height = map(int, parts)
        if width and height and max(x + width, y + height) < 1 << 16:
            return x, y, width, height
    raise ValueError(
        f"a crop of {text[:50]!r}; give left, top, width and height in pixels, such as 40,50,30,24; or activity"
    )


def _crop(value: Any) -> Any:
    return crop_of(value) if isinstance(value, str) else value


Part = tuple[Pixels, Pixels, Annotated[Pixels, Field(gt=0)], Annotated[Pixels, Field(gt=0)]]
Crop = Annotated[Part | Literal["activity"] | None, BeforeValidator(_crop)]


class FrameConfig(Settings):
    """How recordings become frames [T, P, H, W], see `neuromoco.frames.to_frames`.

    Attributes:
        steps: T.
        slice_by: whether steps have equally many events or are equally long.
        height: H.
        width: W.
        crop: the part of the sensor that is used: its left column, its top row, width and height; "activity" for the
            part in which the events of the set lie; None for all of it.
    """

    added: ClassVar[tuple[str, ...]] = ("crop",)
    steps: PositiveInt = 4
    slice_by: Literal["count", "time"] = "count"
    height: PositiveInt = 34
    width: PositiveInt = 34
    crop: Crop = Field(None, description="Use this part of the sensor; activity: that in which the events lie.")

    @model_validator(mode="after")
    def _check_size(self) -> FrameConfig:
        if self.steps * self.height * self.width > LARGEST_FRAMES:
            sides = f"{self.steps:,} steps of {self.height:,} x {self.width:,} pixels"
            raise ValueError(f"frames: {sides}; at most {LARGEST_FRAMES:,} numbers are allowed")
        return self
