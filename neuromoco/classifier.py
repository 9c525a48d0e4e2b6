"""The classifier: an encoder with a linear head."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from neuromoco.checkpoint import CheckpointHeader, stored_tensors
from neuromoco.config import FrameConfig
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.errors import CheckpointError, ConfigError
from neuromoco.support.untrusted import one_line

OTHER_NETWORK = "and was written for another network than its header says"
LEAST_LIMIT = 64  # options of encoders up to here need no tensor of that size


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


def check_size(path: Path | str, frames: FrameConfig, encoder: Encoder) -> None:
    """Refuses frames that are too small for the encoder of a checkpoint.

    Raises:
        ConfigError: a side has too few pixels.
    """
    if min(frames.height, frames.width) < encoder.smallest:
        sides = f"frames of {frames.height} x {frames.width} pixels"
        raise ConfigError(f"{path}: {sides}; its encoder takes {encoder.smallest} or more a side")


def check_network(path: Path | str, header: CheckpointHeader) -> Encoder:
    """Checks that the tensors of a checkpoint are those of the network in its header, before either takes memory.

    Returns:
        The encoder, without values.

    Raises:
        CheckpointError: the header describes no network, or another one.
    """
    stored = stored_tensors(path)
    # Widths and depths that the file has not, of which the network could not even be described in time.
    limit = max(LEAST_LIMIT, len(stored), *(side for entry in stored.values() for side in entry.shape))
    for name, value in header.encoder.options.items():
        if isinstance(value, int) and value > limit:
            raise CheckpointError(f"{path}: states {name}={value}, and has at most {limit} of anything")
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers without weights
            encoder = build_encoder(header.encoder)
            is_encoder = header.kind == "encoder"
            network = encoder if is_encoder else Classifier(encoder, len(header.class_names))
    except ConfigError as error:
        raise CheckpointError(f"{path}: {one_line(error)}") from None
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: describes no network ({one_line(error)})") from None
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name, entry in stored.items():
        if entry.shape != wanted.get(name):
            raise CheckpointError(f"{path}: has {one_line(name)} of shape {list(entry.shape)}, {OTHER_NETWORK}")
    if missing := sorted(wanted.keys() - stored.keys()):
        raise CheckpointError(f"{path}: lacks {missing[0]}, {OTHER_NETWORK}")
    return encoder
