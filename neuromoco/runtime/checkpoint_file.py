"""A classifier in a checkpoint, from recordings to logits, in torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from neuromoco.checkpoint import CheckpointHeader, load_into, load_tensors, read_header
from neuromoco.classifier import Classifier, check_network
from neuromoco.encoders import build_encoder
from neuromoco.errors import CheckpointError
from neuromoco.events import Recording
from neuromoco.frames import batch_frames
from neuromoco.runtime.prediction import Floats, Prediction, opened, predict_batch
from neuromoco.support.device import pick_device
from neuromoco.support.untrusted import one_line


class TrainedClassifier:
    """A classifier in a checkpoint, computed by torch.

    Attributes:
        header: what the checkpoint says about itself.
        network: the network, in evaluation mode.
        device: where it computes.
    """

    def __init__(self, path: Path | str, device: str = "auto") -> None:
        """Loads a checkpoint.

        Args:
            path: a `.safetensors` file that training wrote.
            device: "cpu", "cuda", or "auto" for CUDA where there is one.

        Raises:
            CheckpointError: not a readable checkpoint, or one without a head.
            ConfigError: the device is not available.
        """
        self.header: CheckpointHeader = read_header(path)
        if self.header.kind != "classifier":
            raise CheckpointError(
                f"{path}: is a pre-trained encoder without classes; "
                f"fine-tune it first: neuromoco train --stage finetune --init {path}"
            )
        check_network(path, self.header)
        self._path = path
        self.device = pick_device(device)
        self.network = Classifier(build_encoder(self.header.encoder), len(self.header.class_names))
        load_into(self.network, load_tensors(path), path)
        frames, smallest = self.header.frames, self.network.encoder.smallest
        if min(frames.height, frames.width) < smallest:
            sides = f"{frames.height} x {frames.width}"
            raise CheckpointError(
                f"{path}: states frames of {sides} pixels; its encoder takes {smallest} or more a side"
            )
        self.network.to(self.device).eval()

    def predict(
        self, recordings: Sequence[Recording | Path | str], windows: bool = False, abstain: float | None = None
    ) -> list[Prediction]:
        """Classifies recordings of any sensor and length, or files of them, all in one batch; see `OnnxClassifier`."""
        return predict_batch(self, opened(recordings, self.header), windows, abstain)

    def frames(self, recordings: Sequence[Recording]) -> Floats:
        """Frames [T, N, P, H, W] of N recordings."""
        return batch_frames(recordings, self.header.frames)

    @torch.inference_mode()
    def frame_logits(self, frames: Floats) -> Floats:
        """Logits [T, N, classes] of frames [T, N, P, H, W]."""
        try:
            logits: Floats = self.network(torch.from_numpy(frames).to(self.device)).float().cpu().numpy()
        except (RuntimeError, MemoryError) as error:  # of torch: no memory, for example
            raise CheckpointError(f"{self._path}: cannot be computed ({one_line(error)})") from None
        if not np.isfinite(logits).all():
            raise CheckpointError(f"{self._path}: answers with numbers that are not finite")
        return logits
