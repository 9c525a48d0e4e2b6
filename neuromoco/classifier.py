"""An encoder with a linear head."""

from __future__ import annotations

from torch import Tensor, nn

from neuromoco.encoders import Encoder


class Classifier(nn.Module):
    """A linear head on every time step's features: frames [T, N, P, H, W] -> logits [T, N, classes].

    The answer is the mean of the logits over time.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.feature_dim, classes)

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(frames))
        return logits
