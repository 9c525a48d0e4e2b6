"""A classifier in a checkpoint, from recordings to logits, in torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from neuromoco.checkpoint import CheckpointHeader, load_into, load_tensors, read_header
from neuromoco.classifier import Classifier
from neuromoco.encoders import build_encoder
from neuromoco.errors import CheckpointError
from neuromoco.events import Recording
from neuromoco.frames import batch_frames
from neuromoco.runtime.prediction import Prediction, answers
from neuromoco.support.device import pick_device


class TrainedClassifier:
    """A classifier read from a checkpoint, ready to answer.

    Attributes:
        header: what the checkpoint says of itself.
        network: the network, in evaluation mode.
    """

    def __init__(self, path: Path | str, device: str = "auto") -> None:
        """Loads a checkpoint.

        Raises:
            CheckpointError: no readable checkpoint, or one without a head.
            ConfigError: the device is not there.
        """
        self.header: CheckpointHeader = read_header(path)
        if self.header.kind != "classifier":
            raise CheckpointError(
                f"{path}: is a pre-trained encoder without classes; "
                f"fine-tune it first: neuromoco train --stage finetune --init {path}"
            )
        self.device = pick_device(device)
        self.network = Classifier(build_encoder(self.header.encoder), len(self.header.class_names))
        load_into(self.network, load_tensors(path), path)
        self.network.to(self.device).eval()

    def predict(self, recordings: Sequence[Recording]) -> list[Prediction]:
        """Classifies recordings, all in one batch."""
        return answers(self, recordings)

    def frames(self, recordings: Sequence[Recording]) -> NDArray[np.float32]:
        """Frames [T, N, P, H, W] as the network takes them."""
        return batch_frames(recordings, self.header.frames)

    @torch.inference_mode()
    def frame_logits(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [T, N, classes] of frames [T, N, P, H, W]."""
        answer: NDArray[np.float32] = self.network(torch.from_numpy(frames).to(self.device)).float().cpu().numpy()
        return answer
