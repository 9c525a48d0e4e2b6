"""Features of recordings from a trained encoder in evaluation mode."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuromoco.checkpoint import CheckpointHeader, load_into, load_tensors, read_header
from neuromoco.classifier import check_network, check_size
from neuromoco.config import frames_with
from neuromoco.datasets.cache import FrameStore
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.evaluation.accuracy import frame_batches
from neuromoco.snn.neurons import LIFNode, evaluation_mode

PREFIX = "encoder."  # of the encoder's tensors in a classifier's checkpoint


def load_encoder(
    path: Path | str, device: torch.device, changes: Mapping[str, Any] | None = None
) -> tuple[Encoder, CheckpointHeader]:
    """Loads the encoder of a checkpoint, pre-trained or a classifier's, in evaluation mode, and the header.

    `changes` are those of its frames, by name, such as `frames.steps`; the header has them.

    Raises:
        CheckpointError: no readable checkpoint.
        ConfigError: frames that are not allowed, or too small for the encoder.
    """
    header = read_header(path)
    described = check_network(path, header)
    if changes:
        header = header.model_copy(update={"frames": frames_with(header.frames, changes)})
        check_size(path, header.frames, described)
    tensors = load_tensors(path)
    if header.kind == "classifier":
        tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    encoder = build_encoder(header.encoder)
    load_into(encoder, tensors, path)
    return encoder.to(device).eval().requires_grad_(False), header


def features(
    encoder: Encoder, store: FrameStore, indices: Sequence[int], device: torch.device, per_step: bool = False
) -> NDArray[np.float32]:
    """Features of S recordings without augmentation, float32 [S, D], the mean over time; per step [S, T, D].

    Draws no random number and updates no batch norm: the encoder is in evaluation mode meanwhile.
    """
    batches = (features_by_step(encoder, batch, device) for batch in frame_batches(store.frames, indices))
    return np.concatenate([batch if per_step else batch.mean(1) for batch in batches])


@torch.inference_mode()
def features_by_step(encoder: Encoder, frames: NDArray[np.float32], device: torch.device) -> NDArray[np.float32]:
    """Features [N, T, D] of one batch of frames [T, N, P, H, W]."""
    with evaluation_mode(encoder):
        values: Tensor = encoder(torch.from_numpy(frames).to(device))  # [T, N, D]
    return values.float().transpose(0, 1).cpu().numpy()


@contextmanager
def spike_rates(encoder: Encoder) -> Iterator[dict[str, float]]:
    """Yields what the end of the block fills: each spiking layer's rate, the share of neurons and steps that spike."""
    rates: dict[str, float] = {}
    totals: dict[str, tuple[Tensor, int]] = {}

    def count(name: str, spikes: Tensor) -> None:
        before, number = totals.get(name, (torch.zeros((), device=spikes.device), 0))
        totals[name] = before + spikes.sum(), number + spikes.numel()

    hooks = [
        part.register_forward_hook(lambda _, __, spikes, name=name: count(name, spikes.detach()))
        for name, part in encoder.body.named_modules()
        if isinstance(part, LIFNode)
    ]
    try:
        yield rates
    finally:
        for hook in hooks:
            hook.remove()
        rates.update({name: float(spikes / number) for name, (spikes, number) in totals.items()})


def effective_rank(values: NDArray[np.floating[Any]]) -> float:
    """Effective rank: exp of the entropy of the normalised singular values (Roy and Vetterli 2007; arXiv 2210.02885).

    Of features [S, D]: 1 if all rows are multiples of one (collapse), at most min(S, D); 0 if all values are 0.
    """
    singular = np.linalg.svd(values.astype(np.float64), compute_uv=False)
    if not singular.sum():
        return 0.0
    shares = singular / singular.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def state_sha256(module: nn.Module) -> str:
    """A hash of all parameters and buffers, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
