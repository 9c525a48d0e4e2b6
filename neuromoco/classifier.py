"""The classifier: an encoder with a linear head."""

from __future__ import annotations

from torch import Tensor, nn

from neuromoco.encoders import Encoder


class Classifier(nn.Module):
    """An encoder and a linear head on its features: frames [T, N, P, H, W] -> logits per time step [T, N, classes].

    The prediction is the softmax of the mean of the logits over time.

    Args:
        encoder: gives features [T, N, D].
        classes: number of classes.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.feature_dim, classes)

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(frames))
        return logits
