"""How recordings become frames."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from neuromoco.config.base import Pixels, PositiveInt, Settings

LARGEST_FRAMES = 1 << 24  # numbers of one polarity in a recording: 18 steps of 720 x 1280 pixels


def _crop_of(value: Any) -> Any:
    """The four numbers in a text such as "40,30,64,64"."""
    parts = value.split(",") if isinstance(value, str) and value != "activity" else ()
    return [int(part) for part in parts] if parts and all(part.strip().isdecimal() for part in parts) else value


Crop = Annotated[
    tuple[Pixels, Pixels, Annotated[Pixels, Field(gt=0)], Annotated[Pixels, Field(gt=0)]], BeforeValidator(_crop_of)
]


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
    crop: Crop | Literal["activity"] | None = None

    @model_validator(mode="after")
    def _check_size(self) -> FrameConfig:
        if self.steps * self.height * self.width > LARGEST_FRAMES:
            sides = f"{self.steps:,} steps of {self.height:,} x {self.width:,} pixels"
            raise ValueError(f"frames: {sides}; at most {LARGEST_FRAMES:,} numbers are allowed")
        return self
