"""Views of recordings, and recordings without labels in training with labels."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from neuromoco.config.base import Pixels, PositiveInt, Settings


class ViewConfig(Settings):
    """The random transformation that gives a view of a recording, see `neuromoco.views`.

    Attributes:
        policy: "nda": one of roll, rotate, shear, as NDA was published. "nda-mn": its M/N form, `ops` different
            operations. "group": the set of NeuroMoCo's group, one of identity, shear x, shear y, translate x,
            translate y, rotate, cutout. "affine": shear, scale, rotation and shift in one map, then a cutout.
        flip: probability of a horizontal flip first; 0 where left and right differ in meaning.
        shift: largest roll or translation, pixels.
        rotate: largest rotation, degrees.
        shear: largest shear, as the tangent of its angle.
        scale: largest relative change of size, "affine" only.
        cutout: side of the erased square, pixels.
        drop: largest share of events that is dropped at random, so that their number does not identify a recording.
        ops: operations per view, "nda-mn" only.
        window: smallest share of a recording that a view shows: of its events or its time, as `frames.slice_by` says.
        speed: largest relative change of speed within a view: its steps become up to so much longer or shorter.
        burst: largest share of the steps, in one stretch, whose events are lost.
        slices: slices of a step that windows and speeds are made up from; more are finer, and take more memory.
    """

    added: ClassVar[tuple[str, ...]] = ("window", "speed", "burst", "slices")
    policy: Literal["nda", "nda-mn", "group", "affine"] = "group"
    flip: float = Field(0.5, ge=0.0, le=1.0)
    shift: Pixels = 5
    rotate: float = Field(30.0, ge=0.0, le=180.0)
    shear: NonNegativeFloat = 0.3
    scale: float = Field(0.0, ge=0.0, lt=1.0)
    cutout: Pixels = 8
    drop: float = Field(0.0, ge=0.0, lt=1.0)
    ops: int = Field(1, ge=1, le=4)
    window: float = Field(1.0, gt=0.0, le=1.0)
    speed: float = Field(0.0, ge=0.0, lt=1.0)
    burst: float = Field(0.0, ge=0.0, lt=1.0)
    slices: int = Field(1, ge=1, le=64)

    @property
    def moves_in_time(self) -> bool:
        """Whether steps are made up from slices."""
        return self.window < 1.0 or self.speed > 0.0


class PoolConfig(Settings):
    """Recordings without labels that training with labels uses, too, see `neuromoco.train.pool`.

    Attributes:
        weight: of their loss beside that of the labelled recordings; it rises to this over the first fifth.
        share: recordings of the pool for each labelled one in an optimizer step.
        confidence: probability from which the teacher's answer is taken for a label.
        teacher: decay per optimizer step of the average of weights that is the teacher.
        balanced: classes are as frequent in the pool as among the labelled recordings; the answers are pulled to that.
        views: the random transformation for the network that learns, or None for that of the stage, as the teacher's.
    """

    weight: PositiveFloat = 1.0
    share: PositiveInt = 2
    confidence: float = Field(0.6, ge=0.0, lt=1.0)
    teacher: float = Field(0.98, ge=0.0, lt=1.0)
    balanced: bool = True
    views: ViewConfig | None = None
