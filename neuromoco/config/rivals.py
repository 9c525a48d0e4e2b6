"""Settings of the methods of pre-training that momentum contrast is compared with."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveFloat

from neuromoco.config.base import Settings, Width


class RivalConfig(Settings):
    """Settings of the other methods of pre-training, see `neuromoco.train.rivals`.

    Attributes:
        embed_dim: D, width of an embedding.
        hidden_dim: width of the heads' hidden layers.
        temperature: of SimCLR's softmax over similarities.
        momentum: of BYOL's target network at the first step; it rises as a cosine to 1 at the last.
        invariance: weight of that term of VICReg.
        variance: weight of that term of VICReg.
        covariance: weight of that term of VICReg.
    """

    embed_dim: Width = 128
    hidden_dim: Width = 512
    temperature: PositiveFloat = 0.5
    momentum: float = Field(0.99, ge=0.0, lt=1.0)
    invariance: NonNegativeFloat = 25.0
    variance: NonNegativeFloat = 25.0
    covariance: NonNegativeFloat = 1.0
